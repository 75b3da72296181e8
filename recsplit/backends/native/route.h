// Where a query goes: which variant answers it, into how many parts it is cut, and which server each part waits for. Arithmetic only, without a
// clock or a lock, so that the router (router.h) and the simulator decide by the same code.
//
// A variant is picked by smooth weighted round robin: each gains its weight in credit, the one with the most pays the sum of all. So over any
// stretch of queries the shares are as even as they can be. A query from `large_rows` rows on goes to one variant instead (DeepRecSys, section
// 2b: the accelerator's threshold). Parts are as even as they can be, and each goes where it will be done first: work that is under way
// there, as far as it isn't done yet, over the requests that the server computes at a time, if it has as many already, and the part's own
// time a + b * rows.
#pragma once

#include <cstdint>

namespace recsplit {

// What is known of a server. `work_ms`, `under_way`: the time that is left of requests that it was sent and hasn't answered, and their number;
// a decision adds to them.
struct RouteServer {
  double a_ms, b_ms;  // a request of so many rows takes a_ms + b_ms * rows
  double work_ms;
  int32_t under_way;
  int32_t at_once;  // requests that it computes at a time
  int32_t variant;
  int32_t well;  // 0: it is not asked
};

struct RouteVariant {
  double weight;       // its share of the queries, of the sum of all; 0: none of them
  double credit;       // of the round robin; 0 at the start
  int64_t split_rows;  // the most rows of a part; 0: any number
};

struct RouteRules {
  int64_t large_rows;  // 0: no query is large
  int32_t large_variant;
};

struct RoutePart {
  int32_t server, variant;
  int64_t rows;
  double ms;       // what it takes by itself
  double done_ms;  // from now on until it is done
  double work_ms;  // of its server, before
};

constexpr int32_t kMostVariants = 64;

// Instead of a number of parts: no server of any variant is well; none can be done in time; more parts than there is room for.
constexpr int32_t kRouteNobody = -1, kRouteLate = -2, kRouteTooMany = -3;

// How many parts a query of `rows` rows becomes, at least 1, and the parts in order; their servers have its work then, and the variants their
// credit. Below 0: why it goes nowhere, and nothing has changed. `within_ms`: when its answer must be there, from now on; below 0: whenever.
// A variant that is too late, or has no server that is well, is passed over for the one with the next most credit, and gains none; so is the
// one of large queries. At most kMostVariants.
int32_t route(const RouteRules& rules, RouteVariant* variants, int32_t variant_count, RouteServer* servers, int32_t server_count, int64_t rows, double within_ms, RoutePart* parts,
              int32_t room);

}  // namespace recsplit
