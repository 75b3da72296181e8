#include "router.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "error.h"

namespace recsplit {

namespace {

constexpr int64_t kMostRows = int64_t{1} << 31, kMostParts = 4096;
constexpr size_t kMostServers = 1024;
// Between two probes of a server that is avoided, and two look-ups of a host's name; and how long new servers are waited for.
constexpr std::chrono::milliseconds kProbe(500), kResolve(5000), kFirstLook(1000);
constexpr double kMostMs = 1e9, kMostWeight = 1e9;
// How much one answer changes the scale of its server, as a power; and the scale's limits.
constexpr double kLearns = 0.02, kLeastScale = 0.01, kMostScale = 100;

double between(const Json& json, const char* key, double least, double most) {
  const double value = json.at(key).number();
  if (!(value >= least && value <= most)) throw Error(std::string("the router's ") + key + " is outside what can be");
  return value;
}

template <typename T, typename Same>
std::shared_ptr<T> kept(const std::vector<std::shared_ptr<T>>& all, Same same) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const std::shared_ptr<T>& one) { return same(*one); });
  return found == all.end() ? nullptr : *found;
}

// Whether a server elsewhere serves the model.
Question readiness(const Router::Server& server) { return {"GET " + path_of(server) + "/ready HTTP/1.1\r\nHost: recsplit\r\n\r\n", {}}; }

std::string milliseconds(double ms) { return std::to_string(std::llround(ms)) + " ms"; }

}  // namespace

std::string path_of(const Router::Server& server) {
  return "/v2/models/" + server.model + (server.version < 0 ? "" : "/versions/" + std::to_string(server.version));
}

void Router::set(const std::string& text) {
  const Json json = Json::parse(text, "the router's settings");
  if (json.at("schema").integer() != 1) throw Error("the router's settings are of another version of recsplit: write them again");
  const std::lock_guard<std::mutex> one_by_one(setting_);
  Settings settings;
  settings.text = text;
  const std::chrono::milliseconds timeout(json.at("timeout_ms").integer(1, 3600 * 1000));
  for (const Json& item : json.at("variants").array()) {
    const std::string name = item.at("name").text();
    if (kept(settings.variants, [&](const Variant& one) { return one.name == name; }) != nullptr) throw Error("the router has two variants '" + name + "'");
    auto variant = kept(settings_.variants, [&](const Variant& one) { return one.name == name; });
    if (variant == nullptr) {
      variant = std::make_shared<Variant>();
      variant->name = name;
    }
    const auto number = static_cast<int32_t>(settings.variants.size());
    settings.variants.push_back(variant);
    settings.turns.push_back({between(item, "weight", 0, kMostWeight), 0, item.at("split_rows").integer(0, kMostRows)});
    for (const Json& at : item.at("servers").array()) {
      const std::string model = at.at("model").text(), address = at.at("address").text();
      const int64_t version = at.at("version").integer(-1, INT64_MAX);
      const auto same = [&](const Server& one) { return one.model == model && one.address == address && one.version == version; };
      if (kept(settings.servers, same) != nullptr) throw Error("the router has the server '" + model + "' twice");
      auto server = kept(settings_.servers, same);
      if (server == nullptr) {
        server = std::make_shared<Server>();
        server->model = model;
        server->address = address;
        server->version = version;
        if (!address.empty()) server->elsewhere = std::make_shared<Replicas>(std::vector<std::string>{address}, Asking{timeout, {}, kProbe, kResolve, 1}, readiness(*server));
      }
      settings.terms.push_back({between(at, "a_ms", 0, kMostMs), between(at, "b_ms", 0, kMostMs), 0, 0, static_cast<int32_t>(at.at("at_once").integer(1, 1 << 20)), number, 1});
      settings.servers.push_back(std::move(server));
    }
    if (settings.servers.empty() || settings.terms.back().variant != number) throw Error("the router's variant '" + name + "' has no server");
  }
  const auto turns = [](const RouteVariant& variant) { return variant.weight > 0; };
  if (settings.variants.size() > static_cast<size_t>(kMostVariants) || settings.servers.size() > kMostServers) throw Error("the router has too many variants or servers");
  if (std::none_of(settings.turns.begin(), settings.turns.end(), turns)) throw Error("none of the router's variants has a weight");
  settings.rules.large_rows = json.at("large_rows").integer(0, kMostRows);
  if (settings.rules.large_rows > 0) {
    const std::string large = json.at("large_variant").text();
    const auto place = std::find_if(settings.variants.begin(), settings.variants.end(), [&](const auto& one) { return one->name == large; });
    if (place == settings.variants.end()) throw Error("large queries go to '" + large + "', which is no variant of the router");
    settings.rules.large_variant = static_cast<int32_t>(place - settings.variants.begin());
  }
  settings.deadline_ms = between(json, "deadline_ms", 0, kMostMs);
  const Clock::time_point until = Clock::now() + kFirstLook;
  for (const auto& server : settings.servers) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    if (server->elsewhere != nullptr && !server->is_well()) server->elsewhere->wait(std::max(left, std::chrono::milliseconds(0)));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  settings_ = std::move(settings);
  for (size_t number = 0; number < settings_.servers.size(); ++number) settings_.servers[number]->at_once = settings_.terms[number].at_once;
}

std::vector<RouteServer> Router::servers_at(Clock::time_point now) const {
  std::vector<RouteServer> servers = settings_.terms;
  for (size_t number = 0; number < servers.size(); ++number) {
    const Server& server = *settings_.servers[number];
    servers[number].a_ms *= server.scale;
    servers[number].b_ms *= server.scale;
    servers[number].work_ms = server.under_way.left_ms(now);
    servers[number].under_way = static_cast<int32_t>(server.under_way.size());
    servers[number].well = server.is_well() ? 1 : 0;
  }
  return servers;
}

std::vector<Router::Part> Router::route(int64_t rows, double within_ms) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (within_ms < 0 && settings_.deadline_ms > 0) within_ms = settings_.deadline_ms;
  const Clock::time_point now = Clock::now();
  std::vector<RouteServer> servers = servers_at(now);
  int64_t most_parts = 1;
  for (const RouteVariant& variant : settings_.turns) most_parts = std::max(most_parts, variant.split_rows > 0 ? (rows + variant.split_rows - 1) / variant.split_rows : 1);
  std::vector<RoutePart> decided(static_cast<size_t>(std::min(most_parts, kMostParts)));
  const int32_t count = recsplit::route(settings_.rules, settings_.turns.data(), static_cast<int32_t>(settings_.turns.size()), servers.data(), static_cast<int32_t>(servers.size()), rows,
                                        within_ms, decided.data(), static_cast<int32_t>(decided.size()));
  if (count == kRouteTooMany) throw Error("a query of " + std::to_string(rows) + " rows is more than " + std::to_string(kMostParts) + " parts", true);
  if (count == kRouteLate) {
    ++late;
    double least = std::numeric_limits<double>::infinity();
    for (const RouteServer& server : servers) least = server.well != 0 ? std::min(least, server.work_ms / server.at_once) : least;
    throw Unavailable("no server can answer within " + milliseconds(within_ms) + ": the least busy one has " + milliseconds(least) + " of work");
  }
  if (count == kRouteNobody) {
    ++lost;
    std::string why;
    for (const auto& server : settings_.servers) why += server->is_well() ? "" : (why.empty() ? ": " : "; ") + server->elsewhere->nobody();
    throw Unavailable("no server can answer" + why);
  }
  std::vector<Part> parts;
  int64_t first = 0;
  for (int32_t number = 0; number < count; ++number) {
    const RoutePart& part = decided[static_cast<size_t>(number)];
    Server& server = *settings_.servers[static_cast<size_t>(part.server)];
    const uint64_t ticket = server.under_way.add(part.ms, server.at_once, now);
    parts.push_back({settings_.variants[static_cast<size_t>(part.variant)], settings_.servers[static_cast<size_t>(part.server)], first, part.rows, part.done_ms, ticket});
    first += part.rows;
  }
  Variant& variant = *parts[0].variant;
  ++variant.queries;
  variant.rows += static_cast<uint64_t>(rows);
  variant.parts += static_cast<uint64_t>(count);
  return parts;
}

void Router::answered(const Part& part, double took_ms, bool is_answer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Server& server = *part.server;
  ++(is_answer ? server.answered : server.failed);
  server.under_way.remove(part.number, server.at_once, Clock::now());
  if (is_answer && part.done_ms > 0) server.scale = std::clamp(server.scale * std::pow(std::clamp(took_ms / part.done_ms, 0.1, 10.0), kLearns), kLeastScale, kMostScale);
}

bool Router::again(Part& part) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Clock::time_point now = Clock::now();
  std::vector<RouteServer> servers = servers_at(now);
  RouteVariant only{1, 0, 0};
  for (size_t number = 0; number < servers.size(); ++number) {
    const bool is_other = settings_.variants[static_cast<size_t>(servers[number].variant)] == part.variant && settings_.servers[number] != part.server;
    servers[number].variant = is_other ? 0 : 1;
  }
  RoutePart decided;
  if (recsplit::route({0, 0}, &only, 1, servers.data(), static_cast<int32_t>(servers.size()), part.rows, -1, &decided, 1) != 1) return false;
  part.server = settings_.servers[static_cast<size_t>(decided.server)];
  part.done_ms = decided.done_ms;
  part.number = part.server->under_way.add(decided.ms, part.server->at_once, now);
  return true;
}

std::string Router::settings() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return settings_.text;
}

std::vector<std::shared_ptr<Router::Variant>> Router::variants() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return settings_.variants;
}

std::vector<std::shared_ptr<Router::Server>> Router::servers() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return settings_.servers;
}

}  // namespace recsplit
