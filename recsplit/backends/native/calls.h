// Calls of replicas, all at once. One goes to the replica with the fewest calls under way; where that fails, to another, each once. With none left
// it fails at once: nobody waits for a server that may not come back.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "replicas.h"

namespace recsplit {

// One call: its question, whom to ask, and what came of it.
struct Call {
  Replicas* replicas;
  const Question* question;
  // Takes the answer of a replica. Throws Error where it is none, which counts as a failure of that replica's.
  std::function<void(const HttpConnection&)> read;

  // Empty: answered. `refused`: a replica found fault with the question itself.
  std::string failure;
  bool refused = false;
};

// Asks them all at once, and returns when each has an answer or failed.
void ask(std::vector<Call>& calls);

}  // namespace recsplit
