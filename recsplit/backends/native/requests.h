// Checking a request's inputs against a model's, whoever sends them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine.h"

namespace recsplit {

// Sets input `number` of a request, and its rows; of a model that isn't `batched`, whose dims are all its own, no rows. Throws Error (the client's) where the dims aren't those of the model.
void set_input(Request& request, const std::vector<Tensor>& inputs, size_t number, DType dtype, const int64_t* dims, size_t rank, const void* data,
               bool batched = true);

// Throws Error (the client's) where an input is missing.
void require_inputs(const Request& request, const std::vector<Tensor>& inputs);

}  // namespace recsplit
