#include "recipe.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace recsplit {

namespace {

constexpr int64_t kMostRows = int64_t{1} << 40;
constexpr int64_t kMostDim = 1 << 20;
constexpr int64_t kMostWidth = 1 << 22;
constexpr int64_t kMost = 1 << 20;  // of anything that there are several of

[[noreturn]] void refuse(const std::string& what) { throw Error("engine.json: " + what); }

void require(bool holds, const char* what) {
  if (!holds) refuse(what);
}

struct OpName {
  const char* name;
  Op op;
  int operands;
};
constexpr OpName kOps[] = {
    {"input", Op::input, 0}, {"constant", Op::constant, 0}, {"pick", Op::pick, 1}, {"add", Op::add, 2}, {"sub", Op::sub, 2}, {"mul", Op::mul, 2},
    {"div", Op::div, 2}, {"mod", Op::mod, 2}, {"fmod", Op::fmod, 2}, {"min", Op::min, 2}, {"max", Op::max, 2}, {"bit_and", Op::bit_and, 2},
    {"bit_or", Op::bit_or, 2}, {"bit_xor", Op::bit_xor, 2}, {"shift_left", Op::shift_left, 2}, {"shift_right", Op::shift_right, 2},
    {"equal", Op::equal, 2}, {"less", Op::less, 2}, {"less_equal", Op::less_equal, 2}, {"greater", Op::greater, 2},
    {"greater_equal", Op::greater_equal, 2}, {"negate", Op::negate, 1}, {"absolute", Op::absolute, 1}, {"sign", Op::sign, 1},
    {"bit_not", Op::bit_not, 1}, {"not", Op::logical_not, 1}, {"where", Op::where, 3}, {"buffer", Op::buffer, 1},
    {"vocabulary", Op::vocabulary, 1}, {"cast", Op::cast, 1}, {"concat", Op::concat, 0},
};

const OpName& op_of(const std::string& name) {
  for (const OpName& item : kOps) {
    if (name == item.name) return item;
  }
  refuse("there is no step '" + name.substr(0, 40) + "'");
}

int index(const Json& json, const char* key, size_t size) { return static_cast<int>(json.at(key).integer(0, static_cast<int64_t>(size) - 1)); }

int index_or_none(const Json& json, const char* key, size_t size) {
  const Json* value = json.find(key);
  return value == nullptr || value->is_null() ? -1 : static_cast<int>(value->integer(0, static_cast<int64_t>(size) - 1));
}

std::vector<Tensor> tensors(const Json& json) {
  std::vector<Tensor> all;
  for (const Json& item : json.array()) {
    Tensor tensor{item.at("name").text(), dtype_of(item.at("dtype").text()), item.at("dims").integers()};
    int64_t size = 1;
    for (const int64_t dim : tensor.dims) {
      require(dim >= -1 && dim <= kMostWidth, "a tensor's dims are -1 or a size");
      size *= std::max<int64_t>(dim, 1);
      require(size <= kMostWidth, "a tensor has too many elements a row");
    }
    all.push_back(tensor);
  }
  require(all.size() <= kMost, "too many tensors");
  return all;
}

// Elements a row; -1 where that varies.
int64_t width_of(const Tensor& tensor) {
  int64_t width = 1;
  for (const int64_t dim : tensor.dims) {
    if (dim < 0) return -1;
    width *= dim;
  }
  return width;
}

std::string file_of(const Json& json) {
  const std::string& file = json.at("file").text();
  require(!file.empty() && file[0] != '.' && file.find('/') == std::string::npos, "a file lies beside engine.json");
  return file;
}

}  // namespace

std::vector<Table> read_tables(const Json& json) {
  std::vector<Table> all;
  for (const Json& item : json.array()) {
    const DType dtype = dtype_of(item.at("dtype").text());
    const Json* stored = item.find("stored");
    Table table{file_of(item), static_cast<uint64_t>(item.at("offset").integer(0, INT64_MAX / 2)), static_cast<uint64_t>(item.at("rows").integer(1, kMostRows)),
                static_cast<uint32_t>(item.at("dim").integer(1, kMostDim)), dtype, RowFormat::of(dtype, stored == nullptr ? name_of(dtype) : stored->text())};
    require(table.rows <= static_cast<uint64_t>(INT64_MAX / 4) / table.row_bytes(), "a table is too large");
    all.push_back(table);
  }
  return all;
}

namespace {

std::vector<Buffer> buffers(const Json& json) {
  std::vector<Buffer> all;
  for (const Json& item : json.array()) {
    Buffer buffer{file_of(item), static_cast<uint64_t>(item.at("offset").integer(0, INT64_MAX / 2)), static_cast<uint64_t>(item.at("size").integer(1, kMostRows)),
                  dtype_of(item.at("dtype").text())};
    require(buffer.dtype == DType::i64 || buffer.dtype == DType::i32, "a buffer holds INT32 or INT64");
    require(buffer.offset % size_bytes(buffer.dtype) == 0, "a buffer is aligned");
    all.push_back(buffer);
  }
  return all;
}

std::vector<Vocabulary> vocabularies(const Json& json) {
  std::vector<Vocabulary> all;
  for (const Json& item : json.array()) {
    Vocabulary vocabulary{item.at("keys").integers(), item.at("values").integers(), item.at("missing").integer()};
    require(vocabulary.keys.size() == vocabulary.values.size(), "a vocabulary has a value for each key");
    require(std::is_sorted(vocabulary.keys.begin(), vocabulary.keys.end()), "a vocabulary's keys ascend");
    require(std::adjacent_find(vocabulary.keys.begin(), vocabulary.keys.end()) == vocabulary.keys.end(), "a vocabulary's keys differ");
    all.push_back(std::move(vocabulary));
  }
  return all;
}

Step input_step(const Json& json, const Recipe& recipe, Step step) {
  step.operands[0] = index(json, "input", recipe.inputs.size());
  const int64_t width = width_of(recipe.inputs[step.operands[0]]);
  const Json* columns = json.find("columns");
  if (columns == nullptr || columns->is_null()) {
    step.width = 0;
    return step;
  }
  step.list = columns->integers();
  require(!step.list.empty() && step.list.size() <= kMostWidth, "a step has columns");
  for (const int64_t column : step.list) require(column >= 0 && width >= 0 && column < width, "a column is one of the input's");
  step.width = static_cast<uint32_t>(step.list.size());
  return step;
}

Step read_step(const Json& json, const Recipe& recipe, const std::vector<Step>& before) {
  const OpName& kind = op_of(json.at("op").text());
  Step step{kind.op, dtype_of(json.at("dtype").text()), 1, {-1, -1, -1}, {}};
  require(!is_float(step.dtype) && step.dtype != DType::u64, "steps are of integers that fit 64 bits");
  if (kind.op == Op::input) return input_step(json, recipe, step);
  if (kind.op == Op::constant) {
    step.list = json.at("values").integers();
    require(!step.list.empty() && step.list.size() <= kMostWidth, "a constant has values");
    step.width = static_cast<uint32_t>(step.list.size());
    return step;
  }
  const std::vector<int64_t> operands = json.at("of").integers();
  if (kind.op == Op::concat) {
    int64_t width = 0;
    for (const int64_t operand : operands) {
      require(operand >= 0 && operand < static_cast<int64_t>(before.size()), "a step reads registers before it");
      require(before[static_cast<size_t>(operand)].width != 0, "only known columns are put side by side");
      width += before[static_cast<size_t>(operand)].width;
    }
    require(width > 0 && width <= kMostWidth, "a step has columns");
    step.list = operands;
    step.width = static_cast<uint32_t>(width);
    return step;
  }
  require(operands.size() == static_cast<size_t>(kind.operands), "a step has the operands of its kind");
  for (size_t place = 0; place < operands.size(); ++place) {
    require(operands[place] >= 0 && operands[place] < static_cast<int64_t>(before.size()), "a step reads registers before it");
    step.operands[place] = static_cast<int>(operands[place]);
    const uint32_t width = before[operands[place]].width;
    require(width == 1 || step.width == 1 || width == step.width, "operands are equally wide, or single");
    if (width != 1) step.width = width;
  }
  if (kind.op == Op::pick) {
    step.list = json.at("columns").integers();
    require(!step.list.empty() && step.list.size() <= kMostWidth && step.width != 0, "a step picks columns of known ones");
    for (const int64_t column : step.list) require(column >= 0 && column < static_cast<int64_t>(step.width), "a column is one of the operand's");
    step.width = static_cast<uint32_t>(step.list.size());
  }
  if (kind.op == Op::buffer) step.operands[1] = index(json, "buffer", recipe.buffers.size());
  if (kind.op == Op::vocabulary) step.operands[1] = index(json, "vocabulary", recipe.vocabularies.size());
  return step;
}

Program read_program(const Json& json, const Recipe& recipe) {
  Program program;
  for (const Json& item : json.array()) program.steps.push_back(read_step(item, recipe, program.steps));
  require(!program.steps.empty() && program.steps.size() <= kMost, "a program has steps");
  return program;
}

bool is_integer_input(const Tensor& tensor) { return tensor.dtype == DType::i32 || tensor.dtype == DType::i64; }

}  // namespace

Pooling pooling_of(const std::string& name) {
  if (name == "none") return Pooling::none;
  if (name == "sum") return Pooling::sum;
  if (name == "mean") return Pooling::mean;
  if (name == "max") return Pooling::max;
  refuse("there is no pooling '" + name.substr(0, 40) + "'");
}

namespace {

void read_ids(const Json& json, const Recipe& recipe, Lookup& lookup) {
  lookup.group = index_or_none(json, "group", recipe.bags.size());
  lookup.feature = lookup.group < 0 ? 0 : index(json, "feature", static_cast<size_t>(recipe.bags[lookup.group].features));
  lookup.program = index_or_none(json, "program", recipe.programs.size());
  lookup.input = index_or_none(json, "input", recipe.inputs.size());
  require((lookup.program < 0) != (lookup.input < 0), "ids are an input's or a program's");
  lookup.first = static_cast<uint32_t>(json.at("first").integer(0, kMostWidth));
  lookup.shifts = json.at("shifts").integers();
  require(lookup.shifts.size() == 1 || (lookup.shifts.size() == lookup.width && lookup.group < 0), "there is one shift, or one a column");
  for (const int64_t shift : lookup.shifts) require(shift > -kMostRows * 1024 && shift < kMostRows * 1024, "a shift is too large");
  if (lookup.program >= 0) {
    const Program& program = recipe.programs[lookup.program];
    const bool elementwise = lookup.group >= 0 || lookup.width == 0;
    for (const Step& step : program.steps) {
      const bool varies = step.op == Op::input && step.width == 0;
      require(!varies || elementwise, "a program of known columns reads known columns");
      require(!varies || lookup.group < 0 || step.operands[0] == recipe.bags[lookup.group].values, "a bag's program reads its values");
    }
    require(elementwise ? program.steps.back().width == 0 : program.steps.back().width == lookup.width || program.steps.back().width == 1,
            "a program gives as many ids as the lookup has");
    return;
  }
  const Tensor& input = recipe.inputs[lookup.input];
  require(is_integer_input(input), "ids are INT32 or INT64");
  const int64_t width = width_of(input);
  if (lookup.group >= 0) {
    require(lookup.input == recipe.bags[lookup.group].values, "a bag's ids are its values");
  } else if (lookup.width == 0) {
    require(input.dims.size() == 1, "an input of varying width has one dimension behind the batch");
  } else {
    require(width >= 0 && lookup.first + static_cast<int64_t>(lookup.width) <= width, "a lookup's columns are the input's");
  }
}

void read_weights(const Json& json, const Recipe& recipe, Lookup& lookup) {
  lookup.weights = index_or_none(json, "weights", recipe.inputs.size());
  lookup.first_weight = static_cast<uint32_t>(json.at("first_weight").integer(0, kMostWidth));
  if (lookup.weights < 0) return;
  const Tensor& input = recipe.inputs[lookup.weights];
  const int64_t width = width_of(input);
  require(lookup.table >= 0, "only vectors are weighted");
  require(input.dtype == DType::f32 && recipe.tables[lookup.table].dtype == DType::f32, "weights are FP32, and so is their table");
  require(lookup.pooling == Pooling::sum, "only sums are weighted");
  const bool varies = lookup.group >= 0 || lookup.width == 0;
  require(varies ? input.dims.size() == 1 : width >= 0 && lookup.first_weight + static_cast<int64_t>(lookup.width) <= width, "a lookup has a weight for each id");
}

Lookup read_lookup(const Json& json, const Recipe& recipe) {
  Lookup lookup{};
  if (const Json* name = json.find("name")) lookup.name = name->text();
  lookup.table = index_or_none(json, "table", recipe.tables.size());
  const uint64_t rows = lookup.table < 0 ? INT32_MAX : recipe.tables[lookup.table].rows;
  lookup.base = static_cast<uint64_t>(json.at("base").integer(0, kMostRows));
  lookup.rows = json.at("rows").integer(1, kMostRows);
  require(lookup.base + static_cast<uint64_t>(lookup.rows) <= rows, "a lookup's rows are the table's");
  lookup.order = index_or_none(json, "order", recipe.buffers.size());
  if (lookup.order >= 0) {
    const Buffer& order = recipe.buffers[static_cast<size_t>(lookup.order)];
    require(order.dtype == DType::i32 && order.size == static_cast<uint64_t>(lookup.rows), "an order has an INT32 for each row");
  }
  lookup.fallback = static_cast<uint64_t>(json.at("fallback").integer(0, static_cast<int64_t>(rows) - 1));
  lookup.pooling = pooling_of(json.at("pooling").text());
  const Json& padding = json.at("padding");
  lookup.padded = !padding.is_null();
  lookup.padding = lookup.padded ? padding.integer() : 0;
  if (lookup.table < 0) lookup.none = static_cast<int32_t>(json.at("none").integer(0, INT32_MAX));
  lookup.width = static_cast<uint32_t>(json.at("width").integer(0, kMostWidth));
  lookup.bags = static_cast<uint32_t>(json.at("bags").integer(1, kMostWidth));
  require(lookup.width % lookup.bags == 0 && (lookup.width > 0 || lookup.bags == 1), "bags share the ids out evenly");
  read_ids(json, recipe, lookup);
  read_weights(json, recipe, lookup);
  lookup.mark = json.at("mark").integer(-1, kMost * 1024);
  lookup.wrong = json.at("wrong").integer(-1, kMost * 1024);
  lookup.output = index(json, "output", recipe.outputs.size());
  const Tensor& output = recipe.outputs[lookup.output];
  lookup.place = static_cast<uint32_t>(json.at("place").integer(0, kMostWidth));
  if (lookup.table < 0) {
    require(lookup.pooling == Pooling::none && lookup.group < 0 && lookup.width > 0, "places are of so many ids, and aren't pooled");
    require(output.dtype == DType::i32 && output.dims.size() == 1 && lookup.place + static_cast<int64_t>(lookup.width) <= output.dims[0], "an output has a place for each id");
    return lookup;
  }
  const Table& table = recipe.tables[lookup.table];
  require(lookup.pooling == Pooling::none || is_float(table.dtype), "only numbers with a point are pooled");
  require(output.dtype == table.dtype && output.dims.size() == 2 && output.dims[1] == static_cast<int64_t>(table.dim), "an output holds vectors of its tables");
  const int64_t vectors = lookup.pooling == Pooling::none ? lookup.width : lookup.bags;
  const bool varies = lookup.group < 0 && lookup.width == 0 && lookup.pooling == Pooling::none;
  require(lookup.group < 0 || lookup.pooling != Pooling::none, "bags of varying length are pooled");
  require(varies ? output.dims[0] == -1 && lookup.place == 0 : lookup.place + vectors <= output.dims[0], "an output has a place for each vector");
  return lookup;
}

std::vector<Bags> bags(const Json& json, const Recipe& recipe) {
  std::vector<Bags> all;
  for (const Json& item : json.array()) {
    const Bags group{index(item, "values", recipe.inputs.size()), index(item, "lengths", recipe.inputs.size()),
                     static_cast<int>(item.at("features").integer(1, kMost))};
    const Tensor &values = recipe.inputs[group.values], &lengths = recipe.inputs[group.lengths];
    require(is_integer_input(values) && values.dims.size() == 1, "values are ids in rows");
    require(lengths.dtype == DType::i64 && lengths.dims == std::vector<int64_t>{group.features}, "lengths are INT64, one a feature");
    all.push_back(group);
  }
  return all;
}

Check read_check(const Json& json, const Recipe& recipe) {
  Check check{};
  check.program = index(json, "program", recipe.programs.size());
  const Program& program = recipe.programs[check.program];
  check.numbers = index(json, "numbers", program.steps.size());
  check.outside = index(json, "outside", program.steps.size());
  check.width = static_cast<uint32_t>(json.at("width").integer(0, kMostWidth));
  check.mark = json.at("mark").integer(0, kMost * 1024);
  for (const int place : {check.numbers, check.outside}) {
    const uint32_t width = program.steps[place].width;
    require(width == check.width || width == 1, "a check is as wide as it says");
  }
  return check;
}


// Every vector of every output has one lookup that makes it: what nobody made would be whatever lay in memory.
void require_whole(const Recipe& recipe) {
  std::vector<std::vector<char>> covered;
  for (const Tensor& output : recipe.outputs) {
    require(output.dims.size() == 2 || (output.dims.size() == 1 && output.dtype == DType::i32), "an output has vectors, or places");
    covered.emplace_back(static_cast<size_t>(std::max<int64_t>(output.dims[0], 1)), 0);
  }
  for (const Lookup& lookup : recipe.lookups) {
    std::vector<char>& of_output = covered[static_cast<size_t>(lookup.output)];
    const bool varies = recipe.outputs[static_cast<size_t>(lookup.output)].dims[0] < 0;
    const size_t vectors = varies ? 1 : lookup.pooling == Pooling::none ? lookup.width : lookup.bags;
    for (size_t place = lookup.place; place < lookup.place + vectors; ++place) {
      require(of_output[place] == 0, "two lookups make one vector");
      of_output[place] = 1;
    }
  }
  for (const std::vector<char>& of_output : covered) {
    require(std::all_of(of_output.begin(), of_output.end(), [](char done) { return done != 0; }), "nothing makes a vector of an output");
  }
}

// A check's numbers and those that are outside are known columns together, or vary together.
void require_alike(const Recipe& recipe) {
  for (const Check& check : recipe.checks) {
    for (const Step& step : recipe.programs[static_cast<size_t>(check.program)].steps) {
      require(check.width == 0 || step.op != Op::input || step.width != 0, "a check of known columns reads known columns");
    }
  }
}

}  // namespace

Recipe read_recipe(const Json& json) {
  Recipe recipe;
  recipe.inputs = tensors(json.at("inputs"));
  recipe.tables = read_tables(json.at("tables"));
  recipe.buffers = buffers(json.at("buffers"));
  recipe.vocabularies = vocabularies(json.at("vocabularies"));
  for (const Json& item : json.at("programs").array()) recipe.programs.push_back(read_program(item, recipe));
  recipe.bags = bags(json.at("bags"), recipe);
  recipe.outputs = tensors(json.at("outputs"));
  for (const Json& item : json.at("lookups").array()) recipe.lookups.push_back(read_lookup(item, recipe));
  for (const Json& item : json.at("checks").array()) recipe.checks.push_back(read_check(item, recipe));
  require(!recipe.lookups.empty() && recipe.lookups.size() <= kMost, "there are lookups");
  require_whole(recipe);
  require_alike(recipe);
  recipe.marks = json.at("marks").is_null() ? "" : json.at("marks").text();
  return recipe;
}

}  // namespace recsplit
