#include "front.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace recsplit {

namespace {

size_t place_of(const std::vector<Tensor>& tensors, const std::string& name) {
  for (size_t number = 0; number < tensors.size(); ++number) {
    if (tensors[number].name == name) return number;
  }
  return SIZE_MAX;
}

void must_agree(const Tensor& one, const Tensor& other) {
  if (one.dtype != other.dtype || one.dims != other.dims) throw Error("'" + one.name + "' has two forms in the front's models");
}

}  // namespace

Front::Front(const Json& json, const std::string& folder, const EngineSettings& settings, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs, Workers& workers)
    : before_(json.at("before"), folder, settings, workers), remote_(json.at("remote")), after_(json.at("after"), folder, settings, workers) {
  for (const Tensor& tensor : before_.inputs()) {
    const size_t place = place_of(inputs, tensor.name);
    if (place == SIZE_MAX) throw Error("the front reads '" + tensor.name + "', which no client sends");
    must_agree(inputs[place], tensor);
    before_inputs_.push_back(place);
  }
  for (const Tensor& tensor : remote_.places()) {
    const size_t place = place_of(before_.outputs(), tensor.name);
    if (place == SIZE_MAX) throw Error("shards read '" + tensor.name + "', which isn't made before them");
    must_agree(before_.outputs()[place], tensor);
    places_.push_back(place);
  }
  for (const Tensor& tensor : after_.inputs()) {
    const size_t of_client = place_of(inputs, tensor.name), of_before = place_of(before_.outputs(), tensor.name), of_shards = place_of(remote_.partials(), tensor.name);
    if (of_shards != SIZE_MAX) {
      must_agree(remote_.partials()[of_shards], tensor);
      after_inputs_.push_back({Source::shards, of_shards});
    } else if (of_before != SIZE_MAX) {
      must_agree(before_.outputs()[of_before], tensor);
      after_inputs_.push_back({Source::before, of_before});
    } else if (of_client != SIZE_MAX) {
      must_agree(inputs[of_client], tensor);
      after_inputs_.push_back({Source::client, of_client});
    } else {
      throw Error("'" + tensor.name + "' is read after the shards, and nobody makes it");
    }
  }
  for (const Tensor& tensor : after_.outputs()) {
    const size_t place = place_of(outputs, tensor.name);
    if (place == SIZE_MAX) throw Error("the front makes '" + tensor.name + "', which is no output of its config");
    must_agree(outputs[place], tensor);
    after_outputs_.push_back(place);
  }
  for (size_t output = 0; output < outputs.size(); ++output) {
    if (std::find(after_outputs_.begin(), after_outputs_.end(), output) != after_outputs_.end()) continue;
    const size_t made = place_of(before_.outputs(), outputs[output].name);
    if (made == SIZE_MAX) throw Error("nobody makes '" + outputs[output].name + "', an output of the front's config");
    must_agree(outputs[output], before_.outputs()[made]);
    passed_.push_back({output, made});
  }
}

std::string Front::loaded() const { return "before the shards " + before_.loaded() + "; " + std::to_string(remote_.shards().size()) + " shards elsewhere; after them " + after_.loaded(); }

bool Front::pass(Request& request, const std::vector<Scratch>& made, const std::vector<std::vector<int64_t>>& dims) const {
  try {
    for (const Passed& passed : passed_) {
      char* out = request.allocate(passed.output, dims[passed.made]);
      const TensorView view{before_.outputs()[passed.made].dtype, dims[passed.made], made[passed.made].data()};
      if (out != nullptr) std::memcpy(out, view.data, view.bytes());
    }
    return true;
  } catch (const Error& error) {
    request.error = error.what();
    return false;
  }
}

void Front::run(std::vector<Request>& requests) {
  struct Kept {
    std::vector<Scratch> made;  // by output of `before`
    std::vector<std::vector<int64_t>> dims;
  };
  std::vector<size_t> whose;
  std::vector<Request> before;
  std::vector<Kept> kept;
  for (size_t number = 0; number < requests.size(); ++number) {
    if (requests[number].error.empty()) whose.push_back(number);
  }
  before.resize(whose.size());
  kept.resize(whose.size());
  for (size_t number = 0; number < whose.size(); ++number) {
    const Request& request = requests[whose[number]];
    before[number].rows = request.rows;
    for (const size_t input : before_inputs_) before[number].inputs.push_back(request.inputs[input]);
    Kept& of = kept[number];
    of.made.resize(before_.outputs().size());
    of.dims.resize(before_.outputs().size());
    before[number].allocate = [this, &of](size_t output, const std::vector<int64_t>& dims) {
      of.dims[output] = dims;
      return of.made[output].bytes(TensorView{before_.outputs()[output].dtype, dims, nullptr}.bytes());
    };
  }
  before_.run(before);
  std::vector<Passing> passing;
  std::vector<size_t> left;
  for (size_t number = 0; number < whose.size(); ++number) {
    if (!before[number].error.empty()) {
      requests[whose[number]].error = before[number].error;
      requests[whose[number]].clients = before[number].clients;
      continue;
    }
    Passing through;
    through.rows = before[number].rows;
    for (const size_t output : places_) through.places.push_back(reinterpret_cast<const int32_t*>(kept[number].made[output].data()));
    passing.push_back(std::move(through));
    left.push_back(number);
  }
  if (left.empty()) return;
  remote_.ask(passing);
  std::vector<Request> after;
  std::vector<size_t> answered;
  for (size_t number = 0; number < left.size(); ++number) {
    Request& request = requests[whose[left[number]]];
    if (!passing[number].error.empty()) {
      request.error = passing[number].error;
      request.unavailable = passing[number].unavailable;
      continue;
    }
    Kept& of = kept[left[number]];
    if (!pass(request, of.made, of.dims)) continue;
    Request rest;
    rest.rows = request.rows;
    for (size_t input = 0; input < after_inputs_.size(); ++input) {
      const Source& source = after_inputs_[input];
      if (source.kind == Source::client) {
        rest.inputs.push_back(request.inputs[source.number]);
        continue;
      }
      const bool made = source.kind == Source::before;
      const Tensor& tensor = after_.inputs()[input];
      std::vector<int64_t> dims{static_cast<int64_t>(request.rows)};
      if (made) {
        dims = of.dims[source.number];
      } else {
        dims.insert(dims.end(), tensor.dims.begin(), tensor.dims.end());
      }
      rest.inputs.push_back({tensor.dtype, dims, made ? of.made[source.number].data() : passing[number].partials[source.number].data()});
    }
    rest.allocate = [this, &request](size_t output, const std::vector<int64_t>& dims) { return request.allocate(after_outputs_[output], dims); };
    after.push_back(std::move(rest));
    answered.push_back(whose[left[number]]);
  }
  if (after.empty()) return;
  after_.run(after);
  for (size_t number = 0; number < after.size(); ++number) {
    requests[answered[number]].error = after[number].error;
    requests[answered[number]].clients = after[number].clients;
  }
}

}  // namespace recsplit
