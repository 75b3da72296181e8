#include "courier.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"

namespace recsplit {

struct Courier::Trip {
  Errand errand;
  std::shared_ptr<Replica> replica;
  std::unique_ptr<HttpConnection> connection;
  Clock::time_point start, deadline;
  bool fresh = false;
};

Courier::Courier() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (wake_ < 0) throw Error(std::string("no eventfd: ") + std::strerror(errno));
}

Courier::~Courier() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  eventfd_write(wake_, 1);
  if (thread_.joinable()) thread_.join();
  close(wake_);
}

void Courier::carry(Errand errand) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    new_.push_back(std::move(errand));
    if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  }
  eventfd_write(wake_, 1);
}

void Courier::fail(Trip& trip, const std::string& why) {
  trip.errand.to->failed(*trip.replica, why);
  trip.errand.done(nullptr, trip.replica->name + ": " + why, false);
}

// Sets out. False: it is over.
bool Courier::start(Trip& trip) {
  try {
    trip.connection = trip.errand.to->connection(*trip.replica, trip.fresh);
    trip.connection->begin(trip.errand.question.head, trip.errand.question.body);
  } catch (const Error& error) {
    fail(trip, error.what());
    return false;
  }
  return proceed(trip);
}

// False: it is over.
bool Courier::proceed(Trip& trip) {
  try {
    if (!trip.connection->proceed()) return true;
  } catch (const Error& error) {
    if (!trip.connection->stale() || trip.fresh) {
      fail(trip, error.what());
      return false;
    }
    trip.fresh = true;  // a connection that the server had closed meanwhile says nothing of the server
    return start(trip);
  }
  const HttpConnection& answer = *trip.connection;
  if (answer.status() == 400) {
    const std::string words = said(answer);
    trip.errand.to->let_go(*trip.replica);
    trip.errand.done(nullptr, words, true);
  } else if (answer.status() != 200) {
    fail(trip, said(answer));
  } else {
    try {
      trip.errand.done(&answer, "", false);
      trip.errand.to->answered(*trip.replica, std::move(trip.connection), Clock::now() - trip.start);
    } catch (const Error& error) {
      fail(trip, error.what());
    }
  }
  return false;
}

void Courier::work() {
  std::vector<Trip> trips;
  while (true) {
    std::vector<Errand> errands;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (ending_) return;
      errands.swap(new_);
    }
    for (Errand& errand : errands) {
      std::shared_ptr<Replica> replica = errand.to->choose({});
      if (replica == nullptr) {
        errand.done(nullptr, errand.to->nobody(), false);
        continue;
      }
      const Clock::time_point now = Clock::now();
      Trip trip{std::move(errand), std::move(replica), nullptr, now, now, false};
      trip.deadline = now + trip.errand.to->asking().timeout;
      if (start(trip)) trips.push_back(std::move(trip));
    }
    std::vector<pollfd> waiting{{wake_, POLLIN, 0}};
    Clock::time_point next = Clock::time_point::max();
    for (const Trip& trip : trips) {
      waiting.push_back({trip.connection->descriptor(), trip.connection->events(), 0});
      next = std::min(next, trip.deadline);
    }
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(next - Clock::now()).count();
    poll(waiting.data(), waiting.size(), static_cast<int>(std::clamp<int64_t>((left + 999) / 1000, 0, 60000)));
    eventfd_t count = 0;
    if (waiting[0].revents != 0) eventfd_read(wake_, &count);
    const Clock::time_point now = Clock::now();
    std::vector<Trip> going;
    for (size_t number = 0; number < trips.size(); ++number) {
      Trip& trip = trips[number];
      if (waiting[number + 1].revents != 0 && !proceed(trip)) continue;
      if (now >= trip.deadline) {
        fail(trip, "no answer within " + seconds(trip.errand.to->asking().timeout));
        continue;
      }
      going.push_back(std::move(trip));
    }
    trips = std::move(going);
  }
}

}  // namespace recsplit
