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

bool numeric(const std::string& address, sockaddr_in& at) {
  const size_t colon = address.rfind(':');
  at = {};
  at.sin_family = AF_INET;
  if (colon == std::string::npos || inet_pton(AF_INET, address.substr(0, colon).c_str(), &at.sin_addr) != 1) return false;
  at.sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + colon + 1)));
  return true;
}

std::string seconds(std::chrono::milliseconds time) {
  std::string text = std::to_string(static_cast<double>(time.count()) / 1000);
  text.erase(text.find_last_not_of('0') + 1);
  return (text.back() == '.' ? text.substr(0, text.size() - 1) : text) + " s";
}

// What a server says where it doesn't answer.
std::string said(const HttpConnection& connection) {
  try {
    const Json json = Json::parse({connection.body(), connection.body_size()}, "an error");
    return json.at("error").text();
  } catch (const std::exception&) {
    return "HTTP status " + std::to_string(connection.status());
  }
}

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
    replicas.failed(*replica, why);
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
  open.call->replicas->failed(*open.running[number].replica, why);
  open.running.erase(open.running.begin() + static_cast<ptrdiff_t>(number));
  if (!open.running.empty() || ask_another(open, false)) return;
  ++open.call->replicas->lost;
  open.call->failure = open.call->replicas->nobody();
  open.done = true;
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
  const std::shared_ptr<Replica>& chosen = idlest[turn_++ % idlest.size()];
  ++chosen->under_way;
  return chosen;
}

std::unique_ptr<HttpConnection> Replicas::connection(Replica& replica, bool fresh) {
  if (!fresh) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!replica.idle.empty()) {
      std::unique_ptr<HttpConnection> open = std::move(replica.idle.back());
      replica.idle.pop_back();
      return open;
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
  bool told = false;
  ++replica.failed;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    --replica.under_way;
    replica.problem = problem;
    told = replica.well;
    if (replica.well) replica.probe_at = Clock::now();
    replica.well = false;
    replica.idle.clear();
  }
  changed_.notify_all();
  if (told) notice("replica " + replica.name + " is avoided: " + problem);
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
  return changed_.wait_for(lock, most, [this] { return std::any_of(known_.begin(), known_.end(), [](const auto& item) { return item.second->well; }); });
}

bool Replicas::is_well(const Replica& replica) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return replica.well;
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

// Probes those that are avoided, and follows names.
void Replicas::look_after() {
  resolve();
  Clock::time_point resolve_at = Clock::now() + asking_.resolve;
  while (true) {
    std::vector<std::shared_ptr<Replica>> due;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      Clock::time_point next = resolve_at;
      for (const auto& [name, replica] : known_) {
        if (!replica->well) next = std::min(next, replica->probe_at);
      }
      changed_.wait_until(lock, next, [&] { return ending_ || Clock::now() >= next || std::any_of(known_.begin(), known_.end(), [&](const auto& item) { return !item.second->well && item.second->probe_at < next; }); });
      if (ending_) return;
      const Clock::time_point now = Clock::now();
      for (const auto& [name, replica] : known_) {
        if (!replica->well && replica->probe_at <= now) due.push_back(replica);
      }
    }
    if (Clock::now() >= resolve_at) {
      resolve();
      resolve_at = Clock::now() + asking_.resolve;
    }
    if (!due.empty()) probe(due);
  }
}

void Replicas::probe(std::vector<std::shared_ptr<Replica>> due) {
  const Clock::time_point deadline = Clock::now() + asking_.timeout;
  std::vector<std::unique_ptr<HttpConnection>> connections(due.size());
  std::vector<std::string> problems(due.size(), "no answer within " + seconds(asking_.timeout));
  std::vector<char> done(due.size(), 0);
  for (size_t number = 0; number < due.size(); ++number) {
    try {
      connections[number] = std::make_unique<HttpConnection>(due[number]->address);
      connections[number]->begin(probe_.head, probe_.body);
    } catch (const Error& error) {
      problems[number] = error.what();
      done[number] = 1;
    }
  }
  while (std::find(done.begin(), done.end(), 0) != done.end() && Clock::now() < deadline) {
    std::vector<pollfd> waiting;
    std::vector<size_t> whose;
    for (size_t number = 0; number < due.size(); ++number) {
      if (done[number] == 0) waiting.push_back({connections[number]->descriptor(), connections[number]->events(), 0}), whose.push_back(number);
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    poll(waiting.data(), waiting.size(), static_cast<int>(std::clamp<int64_t>(left, 0, 100)));
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (ending_) return;
    }
    for (const size_t number : whose) {
      try {
        if (!connections[number]->proceed()) continue;
        problems[number] = connections[number]->status() == 200 ? "" : said(*connections[number]);
      } catch (const Error& error) {
        problems[number] = error.what();
      }
      done[number] = 1;
    }
  }
  std::vector<std::string> back;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (size_t number = 0; number < due.size(); ++number) {
      Replica& replica = *due[number];
      const bool well = done[number] != 0 && problems[number].empty();
      if (well && replica.asked) back.push_back(replica.name);
      replica.asked = true;
      replica.well = well;
      replica.problem = problems[number];
      replica.probe_at = Clock::now() + asking_.probe;
      if (well && connections[number]->reusable()) replica.idle.push_back(std::move(connections[number]));
    }
  }
  changed_.notify_all();
  for (const std::string& name : back) {
    notice("replica " + name + " is back");
  }
}

void ask(std::vector<Call>& calls) {
  std::vector<Open> all;
  for (Call& call : calls) {
    all.push_back({&call, {}, {}, Clock::time_point::max(), false});
    Open& open = all.back();
    if (!ask_another(open, false)) {
      ++call.replicas->lost;
      call.failure = call.replicas->nobody();
      open.done = true;
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
