#include "replicas.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>

#include <algorithm>
#include <cstring>

#include "error.h"
#include "json.h"

namespace recsplit {

namespace {

// Connections to a replica that stay open while nobody needs them.
constexpr size_t kIdle = 16;
// ms between two looks for replicas to be probed, while others are.
constexpr int kProbeTick = 20;
// Of what a server says where it doesn't answer.
constexpr size_t kLongestReason = 300;

bool numeric(const std::string& address, sockaddr_in& at) {
  const size_t colon = address.rfind(':');
  at = {};
  at.sin_family = AF_INET;
  if (colon == std::string::npos || inet_pton(AF_INET, address.substr(0, colon).c_str(), &at.sin_addr) != 1) return false;
  at.sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + colon + 1)));
  return true;
}

}  // namespace

std::string seconds(std::chrono::milliseconds time) {
  std::string text = std::to_string(static_cast<double>(time.count()) / 1000);
  text.erase(text.find_last_not_of('0') + 1);
  return (text.back() == '.' ? text.substr(0, text.size() - 1) : text) + " s";
}

// What a server says where it doesn't answer.
std::string said(const HttpConnection& connection) {
  try {
    const Json json = Json::parse({connection.body(), connection.body_size()}, "an error");
    return json.at("error").text().substr(0, kLongestReason);
  } catch (const std::exception&) {
    return "HTTP status " + std::to_string(connection.status());
  }
}

Replicas::Replicas(std::vector<std::string> addresses, const Asking& asking, Question probe) : addresses_(std::move(addresses)), asking_(asking), probe_(std::move(probe)) {
  if (addresses_.empty()) throw Error("a shard elsewhere has no replicas");
  for (const std::string& address : addresses_) {
    const size_t colon = address.rfind(':');
    const int port = colon == std::string::npos ? 0 : std::atoi(address.c_str() + colon + 1);
    if (colon == 0 || port < 1 || port > 65535) throw Error("a replica is host:port, and not '" + address.substr(0, 80) + "'");
  }
  thread_ = std::thread([this] { look_after(); });
}

Replicas::~Replicas() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::shared_ptr<Replica> Replicas::choose(const std::vector<std::shared_ptr<Replica>>& but) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::shared_ptr<Replica>> idlest;
  for (const auto& [name, replica] : known_) {
    if (!replica->well || std::find(but.begin(), but.end(), replica) != but.end()) continue;
    if (!idlest.empty() && replica->under_way < idlest[0]->under_way) idlest.clear();
    if (idlest.empty() || replica->under_way == idlest[0]->under_way) idlest.push_back(replica);
  }
  if (idlest.empty()) return nullptr;
  // A second one beside the first takes no turn: of two replicas the same would be first each time.
  const std::shared_ptr<Replica>& chosen = idlest[(but.empty() ? turn_++ : turn_) % idlest.size()];
  ++chosen->under_way;
  return chosen;
}

std::unique_ptr<HttpConnection> Replicas::connection(Replica& replica, bool fresh) {
  if (!fresh) {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (!replica.idle.empty()) {
      std::unique_ptr<HttpConnection> open = std::move(replica.idle.back());
      replica.idle.pop_back();
      if (open->is_silent()) return open;
    }
  }
  return std::make_unique<HttpConnection>(replica.address);
}

void Replicas::answered(Replica& replica, std::unique_ptr<HttpConnection> connection, Clock::duration took) {
  ++replica.answered;
  replica.answered_us += static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
  const std::lock_guard<std::mutex> lock(mutex_);
  --replica.under_way;
  if (connection->reusable() && replica.idle.size() < kIdle) replica.idle.push_back(std::move(connection));
}

void Replicas::failed(Replica& replica, const std::string& problem) {
  bool was_well = false;
  ++replica.failed;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    --replica.under_way;
    replica.problem = problem;
    was_well = replica.well;
    // At once; but one that answers probes and no questions comes back once in a while only.
    if (was_well) replica.probe_at = std::max(Clock::now(), replica.probe_at);
    replica.well = false;
    replica.idle.clear();
  }
  changed_.notify_all();
  if (was_well) notice("replica " + replica.name + " is avoided: " + problem);
}

void Replicas::let_go(Replica& replica) {
  const std::lock_guard<std::mutex> lock(mutex_);
  --replica.under_way;
}

std::string Replicas::nobody() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string words;
  for (const auto& [name, replica] : known_) {
    if (!replica->problem.empty()) words += (words.empty() ? "" : "; ") + name + ": " + replica->problem;
  }
  if (!known_.empty()) return "no replica answers: " + words;
  for (const std::string& address : addresses_) words += (words.empty() ? "" : ", ") + address;
  return "no replica found at " + words;
}

bool Replicas::wait(std::chrono::milliseconds most) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto is_well = [](const auto& item) { return item.second->well; };
  if (!changed_.wait_for(lock, most, [&] { return std::any_of(known_.begin(), known_.end(), is_well); })) return false;
  // The others are as quick, where they are well; one that hangs isn't waited for.
  changed_.wait_for(lock, std::min(most, asking_.probe), [this] { return std::all_of(known_.begin(), known_.end(), [](const auto& item) { return item.second->asked; }); });
  return true;
}

bool Replicas::is_well(const Replica& replica) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return replica.well;
}

bool Replicas::any_well() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::any_of(known_.begin(), known_.end(), [](const auto& item) { return item.second->well; });
}

void Replicas::tell(std::function<void(const std::string&)> whom) {
  const std::lock_guard<std::mutex> lock(mutex_);
  told_ = std::move(whom);
}

void Replicas::notice(const std::string& words) const {
  std::function<void(const std::string&)> whom;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    whom = told_;
  }
  if (whom) whom(words);
}

std::vector<std::shared_ptr<Replica>> Replicas::all() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::shared_ptr<Replica>> replicas;
  for (const auto& [name, replica] : known_) replicas.push_back(replica);
  return replicas;
}

void Replicas::resolve() {
  std::map<std::string, sockaddr_in> there;
  for (const std::string& address : addresses_) {
    sockaddr_in at{};
    if (numeric(address, at)) {
      there[address] = at;
      continue;
    }
    const size_t colon = address.rfind(':');
    addrinfo hints{}, *answer = nullptr;
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(address.substr(0, colon).c_str(), address.c_str() + colon + 1, &hints, &answer) != 0) return;  // keep those known: servers that answer aren't dropped for it
    for (const addrinfo* item = answer; item != nullptr; item = item->ai_next) {
      at = *reinterpret_cast<const sockaddr_in*>(item->ai_addr);
      char text[INET_ADDRSTRLEN] = {};
      inet_ntop(AF_INET, &at.sin_addr, text, sizeof text);
      there[std::string(text) + ":" + std::to_string(ntohs(at.sin_port))] = at;
    }
    freeaddrinfo(answer);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [name, at] : there) {
    if (known_.count(name) == 0) known_[name] = std::make_shared<Replica>(name, at);
  }
  for (auto item = known_.begin(); item != known_.end();) item = there.count(item->first) == 0 ? known_.erase(item) : std::next(item);
}

// Probes those that are avoided, each for itself: one that hangs doesn't keep the others out. And follows names.
void Replicas::look_after() {
  resolve();
  Clock::time_point resolve_at = Clock::now() + asking_.resolve;
  std::vector<Probe> running;
  while (true) {
    std::vector<std::shared_ptr<Replica>> due;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      const auto next = [this, resolve_at] {
        Clock::time_point first = resolve_at;
        for (const auto& [name, replica] : known_) {
          if (!replica->well && !replica->probed) first = std::min(first, replica->probe_at);
        }
        return first;
      };
      // What is due changes while it waits: another replica failed.
      while (running.empty() && !ending_ && Clock::now() < next()) changed_.wait_until(lock, next());
      if (ending_) return;
      const Clock::time_point now = Clock::now();
      for (const auto& [name, replica] : known_) {
        if (replica->well || replica->probed || replica->probe_at > now) continue;
        replica->probed = true;
        due.push_back(replica);
      }
    }
    if (Clock::now() >= resolve_at) {
      resolve();
      resolve_at = Clock::now() + asking_.resolve;
    }
    for (const auto& replica : due) {
      Probe probe{replica, nullptr, Clock::now() + asking_.timeout};
      try {
        probe.connection = std::make_unique<HttpConnection>(replica->address);
        probe.connection->begin(probe_.head, probe_.body);
        running.push_back(std::move(probe));
      } catch (const Error& error) {
        settle(*replica, error.what(), nullptr);
      }
    }
    proceed(running);
  }
}

void Replicas::proceed(std::vector<Probe>& running) {
  std::vector<pollfd> waiting;
  for (const Probe& probe : running) waiting.push_back({probe.connection->descriptor(), probe.connection->events(), 0});
  if (!waiting.empty()) poll(waiting.data(), waiting.size(), kProbeTick);
  std::vector<Probe> left;
  for (Probe& probe : running) {
    std::string problem;
    bool is_over = true;
    try {
      if (probe.connection->proceed()) {
        problem = probe.connection->status() == 200 ? "" : said(*probe.connection);
      } else if (Clock::now() >= probe.deadline) {
        problem = "no answer within " + seconds(asking_.timeout);
      } else {
        is_over = false;
      }
    } catch (const Error& error) {
      problem = error.what();
    }
    if (is_over) {
      settle(*probe.replica, problem, std::move(probe.connection));
    } else {
      left.push_back(std::move(probe));
    }
  }
  running = std::move(left);
}

// What came of a probe; no problem: the replica is well.
void Replicas::settle(Replica& replica, const std::string& problem, std::unique_ptr<HttpConnection> connection) {
  bool is_back = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool well = problem.empty();
    is_back = well && replica.asked;
    replica.asked = true;
    replica.probed = false;
    replica.well = well;
    replica.problem = problem;
    replica.probe_at = Clock::now() + asking_.probe;
    if (well && connection->reusable()) replica.idle.push_back(std::move(connection));
  }
  changed_.notify_all();
  if (is_back) notice("replica " + replica.name + " is back");
}

}  // namespace recsplit
