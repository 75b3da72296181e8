#include "requests.h"

#include "error.h"

namespace recsplit {

namespace {
constexpr int64_t kMostElements = int64_t{1} << 40;
}

void set_input(Request& request, const std::vector<Tensor>& inputs, size_t number, DType dtype, const int64_t* dims, size_t rank, const void* data, bool batched) {
  const Tensor& tensor = inputs[number];
  const auto refuse = [&](const std::string& what) { throw Error("input '" + tensor.name + "' " + what, true); };
  if (dtype != tensor.dtype) refuse(std::string("is ") + name_of(dtype) + ", and the model takes " + name_of(tensor.dtype));
  const size_t before = batched ? 1 : 0;
  // Triton hands over a request of batch 0 without its batch dimension.
  if (rank != tensor.dims.size() + before) refuse("has " + std::to_string(rank) + " dimensions, and the model takes " + std::to_string(tensor.dims.size() + before) + (batched ? " with the batch" : ""));
  int64_t elements = 1;
  for (size_t axis = 0; axis < rank; ++axis) {
    const int64_t expected = axis < before ? -1 : tensor.dims[axis - before];
    if (dims[axis] < (axis < before ? 1 : 0)) refuse("has a dimension of " + std::to_string(dims[axis]));
    if (expected >= 0 && dims[axis] != expected) refuse("has " + std::to_string(dims[axis]) + " in dimension " + std::to_string(axis) + ", and the model takes " + std::to_string(expected));
    if (dims[axis] != 0 && elements > kMostElements / dims[axis]) refuse("is too large");
    elements *= dims[axis];
  }
  const size_t rows = batched ? static_cast<size_t>(dims[0]) : 1;
  if (request.rows != 0 && request.rows != rows) refuse("has " + std::to_string(rows) + " rows, and others have " + std::to_string(request.rows));
  request.rows = rows;
  request.inputs.resize(inputs.size());
  request.inputs[number] = {dtype, {dims, dims + rank}, const_cast<void*>(data)};
}

void require_inputs(const Request& request, const std::vector<Tensor>& inputs) {
  for (size_t number = 0; number < inputs.size(); ++number) {
    if (number >= request.inputs.size() || request.inputs[number].dims.empty()) throw Error("input '" + inputs[number].name + "' is missing", true);
  }
}

}  // namespace recsplit
