#include "control.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"
#include "json.h"

namespace recsplit {

namespace {

constexpr size_t kLongestLine = 1 << 20;
constexpr int kPatienceMs = 1000;  // for a line from who has connected

bool of_our_user(int connection) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

}  // namespace

void Registry::add(const std::string& model, Engine* engine) {
  const std::lock_guard<std::mutex> lock(mutex_);
  models_[model].push_back(engine);
  const auto asked = asked_.find(model);
  if (asked != asked_.end()) engine->workers().set(asked->second);
}

void Registry::remove(const std::string& model, Engine* engine) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Engine*>& all = models_[model];
  all.erase(std::remove(all.begin(), all.end(), engine), all.end());
  if (all.empty()) models_.erase(model);
}

void Registry::add(const std::string& model, Router* router) {
  const std::lock_guard<std::mutex> lock(mutex_);
  routers_[model].push_back(router);
}

void Registry::remove(const std::string& model, Router* router) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Router*>& all = routers_[model];
  all.erase(std::remove(all.begin(), all.end(), router), all.end());
  if (all.empty()) routers_.erase(model);
}

std::string Registry::route(const Json& question) {
  const auto model = routers_.find(question.at("route").text());
  if (model == routers_.end()) throw Error("no router '" + question.at("route").text() + "' is loaded");
  Router& router = *model->second.back();
  if (const Json* settings = question.find("settings")) router.set(settings->text());
  std::string variants, servers;
  for (const auto& variant : router.variants()) {
    variants += (variants.empty() ? "" : ", ") + ("{\"name\": " + quoted(variant->name)) + ", \"queries\": " + std::to_string(variant->queries) + ", \"rows\": " + std::to_string(variant->rows) +
                ", \"parts\": " + std::to_string(variant->parts) + "}";
  }
  for (const auto& server : router.servers()) {
    servers += (servers.empty() ? "" : ", ") + ("{\"model\": " + quoted(server->model)) + ", \"address\": " + quoted(server->address) + ", \"answered\": " + std::to_string(server->answered) +
               ", \"failed\": " + std::to_string(server->failed) + "}";
  }
  std::string settings = router.settings();
  settings.erase(std::remove(settings.begin(), settings.end(), '\n'), settings.end());  // an answer is one line
  return "{\"route\": {\"settings\": " + settings + ", \"late\": " + std::to_string(router.late) + ", \"lost\": " + std::to_string(router.lost) + ", \"variants\": [" + variants + "], \"servers\": [" + servers + "]}}\n";
}

std::string Registry::access(const Json& question) {
  const Json* clear = question.find("clear");
  const auto model = models_.find(question.at("access").text());
  if (model == models_.end()) throw Error("no model '" + question.at("access").text() + "' is loaded by the engine");
  const Lookups* lookups = model->second.back()->lookups();
  if (lookups == nullptr) throw Error("ONNX Runtime does the lookups of '" + model->first + "', and the engine doesn't see what they read");
  std::string words, samples;
  for (size_t table = 0; table < lookups->access().tables().size(); ++table) {
    const TableAccess& access = *lookups->access().tables()[table];
    const TableAccess::Sample sample = lookups->sample_of(table, clear != nullptr && clear->boolean());
    words += (words.empty() ? "" : ", ") + ("{\"name\": " + quoted(access.name)) + ", \"rows\": " + std::to_string(access.rows) + ", \"ids\": " + std::to_string(sample.ids) +
             ", \"read\": " + std::to_string(sample.read) + ", \"unknown\": " + std::to_string(sample.unknown) + ", \"level\": " + std::to_string(sample.level) +
             ", \"sampled\": " + std::to_string(sample.rows.size()) + "}";
    samples.append(reinterpret_cast<const char*>(sample.rows.data()), sample.rows.size() * sizeof(uint32_t));
  }
  const uint64_t rows = lookups->access().rows_since(clear != nullptr && clear->boolean());
  return "{\"access\": {\"rows\": " + std::to_string(rows) + ", \"stride\": " + std::to_string(lookups->sampled_stride()) + ", \"tables\": [" + words + "]}}\n" + samples;
}

std::string Registry::answer(const std::string& line) {
  try {
    const Json question = Json::parse(line, "the question");
    const std::lock_guard<std::mutex> lock(mutex_);
    if (question.find("access") != nullptr) return access(question);
    if (question.find("route") != nullptr) return route(question);
    if (const Json* name = question.find("model")) {
      const auto model = models_.find(name->text());
      if (model == models_.end()) throw Error("no model '" + name->text() + "' is loaded by the engine");
      const auto count = static_cast<int>(question.at("workers").integer(1, kMostWorkers));
      asked_[model->first] = count;
      for (Engine* engine : model->second) engine->workers().set(count);
    }
    std::string words;
    for (const auto& [name, all] : models_) words += (words.empty() ? "" : ", ") + quoted(name) + ": " + std::to_string(all.back()->workers().count());
    return "{\"workers\": {" + words + "}}\n";
  } catch (const std::exception& error) {
    return "{\"error\": " + quoted(error.what()) + "}\n";
  }
}

Control::Control(const std::string& path, Registry& registry) : path_(path), registry_(registry) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw Error("the path of the control socket is too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  listening_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  unlink(path.c_str());
  const mode_t before = umask(0177);
  const bool bound = listening_ >= 0 && bind(listening_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  umask(before);
  if (!bound || listen(listening_, 16) != 0 || pipe2(ending_, O_CLOEXEC) != 0) {
    const std::string reason = std::strerror(errno);
    if (listening_ >= 0) close(listening_);
    throw Error("the control socket " + path + " can't be made: " + reason);
  }
  thread_ = std::thread([this] { serve(); });
}

Control::~Control() {
  close(ending_[1]);
  thread_.join();
  close(ending_[0]);
  close(listening_);
  unlink(path_.c_str());
}

void Control::serve() {
  pollfd waiting[2] = {{listening_, POLLIN, 0}, {ending_[0], POLLIN, 0}};
  while (true) {
    if (poll(waiting, 2, -1) < 0 && errno != EINTR) return;
    if (waiting[1].revents != 0) return;
    if (waiting[0].revents == 0) continue;
    const int connection = accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    const timeval patience{kPatienceMs / 1000, 0};
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (of_our_user(connection)) talk(connection);
    close(connection);
  }
}

void Control::talk(int connection) {
  std::string line;
  pollfd waiting[2] = {{connection, POLLIN, 0}, {ending_[0], POLLIN, 0}};
  while (line.size() < kLongestLine) {
    if (poll(waiting, 2, kPatienceMs) <= 0 || waiting[1].revents != 0) return;
    char letters[512];
    const ssize_t count = recv(connection, letters, sizeof letters, 0);
    if (count <= 0) return;
    line.append(letters, static_cast<size_t>(count));
    const size_t end = line.find('\n');
    if (end == std::string::npos) continue;
    const std::string reply = registry_.answer(line.substr(0, end));
    for (size_t sent = 0; sent < reply.size();) {
      const ssize_t part = send(connection, reply.data() + sent, reply.size() - sent, MSG_NOSIGNAL);
      if (part < 0) return;  // it went, or takes nothing for as long as it is waited for
      sent += static_cast<size_t>(part);
    }
    line.erase(0, end + 1);
  }
}

}  // namespace recsplit
