#include "calls.h"

#include <poll.h>

#include <algorithm>

#include "error.h"

namespace recsplit {

namespace {

// One try of a call.
struct Attempt {
  std::shared_ptr<Replica> replica;
  std::unique_ptr<HttpConnection> connection;
  Clock::time_point start, deadline;
  bool fresh = false;
};

struct Open {
  Call* call;
  std::vector<std::shared_ptr<Replica>> asked;
  std::vector<Attempt> running;
  std::string problems;  // of those that failed, in words
  Clock::time_point hedge_at = Clock::time_point::max();
  bool done = false;
};

bool begin(Attempt& attempt, Replicas& replicas, const Question& question, std::string& why) {
  try {
    attempt.connection = replicas.connection(*attempt.replica, attempt.fresh);
    attempt.connection->begin(question.head, question.body);
    return true;
  } catch (const Error& error) {
    why = error.what();
    return false;
  }
}

// A replica failed.
void note(Open& open, Replica& replica, const std::string& why) {
  open.problems += (open.problems.empty() ? "" : "; ") + replica.name + ": " + why;
  open.call->replicas->failed(replica, why);
}

// The call has no answer, and nobody else is asked.
void lose(Open& open) {
  Replicas& replicas = *open.call->replicas;
  ++replicas.lost;
  const size_t count = replicas.all().size();
  if (open.problems.empty()) {
    open.call->failure = replicas.nobody();
  } else if (open.asked.size() < count && static_cast<int>(open.asked.size()) == replicas.asking().attempts) {
    open.call->failure = "no replica answers, of " + std::to_string(open.asked.size()) + " that were asked of " + std::to_string(count) + ": " + open.problems;
  } else {
    open.call->failure = "no replica answers: " + open.problems;
  }
  open.done = true;
}

// Asks one more replica. False: there is none.
bool ask_another(Open& open, bool hedge) {
  Replicas& replicas = *open.call->replicas;
  while (static_cast<int>(open.asked.size()) < replicas.asking().attempts) {
    std::shared_ptr<Replica> replica = replicas.choose(open.asked);
    if (replica == nullptr) return false;
    if (!open.asked.empty()) ++(hedge ? replicas.hedges : replicas.retries);
    open.asked.push_back(replica);
    const Clock::time_point now = Clock::now();
    Attempt attempt{replica, nullptr, now, now + replicas.asking().timeout, false};
    std::string why;
    if (begin(attempt, replicas, *open.call->question, why)) {
      open.running.push_back(std::move(attempt));
      return true;
    }
    note(open, *replica, why);
  }
  return false;
}

void end(Open& open) {
  for (Attempt& attempt : open.running) open.call->replicas->let_go(*attempt.replica);
  open.running.clear();
  open.done = true;
}

// An attempt is over; where no other one runs, another replica is asked, or the call is lost.
void fail(Open& open, size_t number, const std::string& why) {
  note(open, *open.running[number].replica, why);
  open.running.erase(open.running.begin() + static_cast<ptrdiff_t>(number));
  if (open.running.empty() && !ask_another(open, false)) lose(open);
}

void finish(Open& open, size_t number) {
  Attempt& attempt = open.running[number];
  HttpConnection& connection = *attempt.connection;
  if (connection.status() != 200) {
    const std::string words = said(connection);
    // The server found fault with the question: another one would say the same. That it lacks the model is its own fault.
    if (connection.status() == 400 && words.find("unknown model") == std::string::npos) {
      open.call->failure = words;
      open.call->refused = true;
      end(open);
    } else {
      fail(open, number, words);
    }
    return;
  }
  try {
    open.call->read(connection);
  } catch (const Error& error) {
    fail(open, number, error.what());
    return;
  }
  Attempt answered = std::move(attempt);
  open.running.erase(open.running.begin() + static_cast<ptrdiff_t>(number));
  open.call->replicas->answered(*answered.replica, std::move(answered.connection), Clock::now() - answered.start);
  end(open);
}

// Moves an attempt on. True: the list of attempts is another one now.
bool proceed(Open& open, size_t number) {
  Attempt& attempt = open.running[number];
  try {
    if (!attempt.connection->proceed()) return false;
  } catch (const Error& error) {
    std::string why = error.what();
    if (attempt.connection->stale() && !attempt.fresh) {  // a connection that the server had closed meanwhile says nothing of the server
      attempt.fresh = true;
      if (begin(attempt, *open.call->replicas, *open.call->question, why)) return false;
    }
    fail(open, number, why);
    return true;
  }
  finish(open, number);
  return true;
}

}  // namespace

void ask(std::vector<Call>& calls) {
  std::vector<Open> all;
  for (Call& call : calls) {
    all.push_back({&call, {}, {}, "", Clock::time_point::max(), false});
    Open& open = all.back();
    if (!ask_another(open, false)) {
      lose(open);
    } else if (call.replicas->asking().hedge.count() > 0) {
      open.hedge_at = Clock::now() + call.replicas->asking().hedge;
    }
  }
  // What can be sent at once is sent before anybody waits.
  for (Open& open : all) {
    if (!open.done) proceed(open, 0);
  }
  while (true) {
    std::vector<pollfd> waiting;
    Clock::time_point next = Clock::time_point::max();
    for (Open& open : all) {
      if (open.done) continue;
      for (const Attempt& attempt : open.running) {
        waiting.push_back({attempt.connection->descriptor(), attempt.connection->events(), 0});
        next = std::min(next, attempt.deadline);
      }
      next = std::min(next, open.hedge_at);
    }
    if (waiting.empty()) return;
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(next - Clock::now()).count();
    poll(waiting.data(), waiting.size(), static_cast<int>(std::clamp<int64_t>((left + 999) / 1000, 0, 60000)));
    size_t place = 0;
    for (Open& open : all) {
      if (open.done) continue;
      const size_t count = open.running.size();
      bool moved = false;
      for (size_t number = 0; number < count; ++number) {
        const bool ready = waiting[place + number].revents != 0;
        // Where the list has changed, the rest of it is looked at in the next turn.
        if (ready && !moved) moved = proceed(open, number);
      }
      place += count;
      if (open.done) continue;
      const Clock::time_point now = Clock::now();
      for (size_t number = 0; number < open.running.size() && !open.done; ++number) {
        if (now < open.running[number].deadline) continue;
        fail(open, number, "no answer within " + seconds(open.call->replicas->asking().timeout));
        break;
      }
      if (!open.done && now >= open.hedge_at) {
        open.hedge_at = Clock::time_point::max();
        if (open.asked.size() == 1) ask_another(open, true);
      }
    }
  }
}

}  // namespace recsplit
