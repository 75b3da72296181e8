// How rows become a vector.
#pragma once

namespace recsplit {

enum class Pooling : int { none, sum, mean, max };

}  // namespace recsplit
