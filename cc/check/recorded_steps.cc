#include "cc/check/recorded_steps.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <mutex>
#include <optional>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/executable/executable.h"

namespace tfipu {
namespace {

float FromBfloat16(std::uint16_t bits) {
  const std::uint32_t wide = std::uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

float FromFloat16(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const float sign = bits & 0x8000 ? -1.0f : 1.0f;
  const float mantissa = static_cast<float>(bits & 0x3ff);
  if (exponent == 31) {
    return mantissa == 0 ? sign * std::numeric_limits<float>::infinity()
                         : std::numeric_limits<float>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(mantissa + 1024, exponent - 25);
}

template <typename Element, typename Convert>
std::vector<double> Convertible(const std::string& bytes, Convert convert) {
  std::vector<double> values(bytes.size() / sizeof(Element));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Element element;
    std::memcpy(&element, bytes.data() + i * sizeof(Element), sizeof(Element));
    values[i] = static_cast<double>(convert(element));
  }
  return values;
}

// The elements of a tensor of floating-point numbers; nothing for other types.
std::optional<std::vector<double>> Numbers(ElementType type, const std::string& bytes) {
  const auto same = [](auto value) { return value; };
  switch (type) {
    case FLOAT32:
    case COMPLEX64:
      return Convertible<float>(bytes, same);
    case FLOAT64:
    case COMPLEX128:
      return Convertible<double>(bytes, same);
    case FLOAT16:
      return Convertible<std::uint16_t>(bytes, FromFloat16);
    case BFLOAT16:
      return Convertible<std::uint16_t>(bytes, FromBfloat16);
    default:
      return std::nullopt;
  }
}

std::string RandomBytes(const TensorSpec& spec, std::mt19937_64& random) {
  std::string bytes(*TensorSize(spec), '\0');
  const auto fill = [&](auto next) {
    using Element = decltype(next());
    for (std::size_t at = 0; at + sizeof(Element) <= bytes.size(); at += sizeof(Element)) {
      const Element element = next();
      std::memcpy(bytes.data() + at, &element, sizeof(element));
    }
  };
  const auto uniform = [&] { return static_cast<double>(random() >> 11) / (std::uint64_t{1} << 52) - 1; };
  switch (spec.type()) {
    case FLOAT32:
    case COMPLEX64:
      fill([&] { return static_cast<float>(uniform()); });
      break;
    case FLOAT64:
    case COMPLEX128:
      fill([&] { return uniform(); });
      break;
    case BFLOAT16:
      fill([&] {
        const auto value = static_cast<float>(uniform());
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof(bits));
        return static_cast<std::uint16_t>(bits >> 16);
      });
      break;
    case FLOAT16:  // from 1 to 2, whose bits are those of an integer
      fill([&] { return static_cast<std::uint16_t>(0x3c00 + random() % 0x400); });
      break;
    case BOOL:
      fill([&] { return static_cast<std::uint8_t>(random() % 2); });
      break;
    case INT32:
    case UINT32:
      fill([&] { return static_cast<std::uint32_t>(random() % 100); });
      break;
    case INT64:
    case UINT64:
      fill([&] { return static_cast<std::uint64_t>(random() % 100); });
      break;
    case INT16:
    case UINT16:
      fill([&] { return static_cast<std::uint16_t>(random() % 100); });
      break;
    default:
      fill([&] { return static_cast<std::uint8_t>(random() % 100); });
  }
  return bytes;
}

AlignedBuffer Aligned(const std::string& bytes) {
  AlignedBuffer buffer(bytes.size());
  std::memcpy(buffer.data(), bytes.data(), bytes.size());
  return buffer;
}

// One call, waited for.
absl::StatusOr<RecordedSteps::Step> Answer(Engine& engine, const RecordedSteps::Step& asked) {
  const ExecutableHeader& header = engine.executable().header();
  std::vector<AlignedBuffer> buffers;
  Call call;
  for (const std::string& infeed : asked.infeeds()) {
    buffers.push_back(Aligned(infeed));
    call.infeeds.push_back(buffers.back().span());
  }
  for (const TensorSpec& spec : header.outfeeds()) {
    buffers.emplace_back(*TensorSize(spec));
    call.outfeeds.push_back(buffers.back().span());
  }
  const std::vector<MutableBuffer> outfeeds = call.outfeeds;
  if (header.dynamic_batch()) call.rows = header.outfeeds(0).dims(0);
  std::mutex mutex;
  std::condition_variable answered;
  std::optional<absl::Status> status;
  call.done = [&](absl::Status outcome) {
    std::lock_guard<std::mutex> lock(mutex);
    status = std::move(outcome);
    answered.notify_all();
  };
  engine.Enqueue(std::move(call));
  std::unique_lock<std::mutex> lock(mutex);
  answered.wait(lock, [&] { return status.has_value(); });
  if (!status->ok()) return *status;
  RecordedSteps::Step step;
  *step.mutable_infeeds() = asked.infeeds();
  for (const MutableBuffer& outfeed : outfeeds) {
    step.add_outfeeds(reinterpret_cast<const char*>(outfeed.data()), outfeed.size());
  }
  return step;
}

template <typename Bytes>
absl::Status CheckSizes(const char* what, const google::protobuf::RepeatedPtrField<TensorSpec>& specs,
                        const Bytes& bytes) {
  if (bytes.size() != specs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("found ", bytes.size(), " ", what, ", the executable has ", specs.size()));
  }
  for (int i = 0; i < specs.size(); ++i) {
    if (bytes[i].size() == *TensorSize(specs[i])) continue;
    return absl::InvalidArgumentError(absl::StrCat("found ", bytes[i].size(), " bytes of ", what, " ", i,
                                                   ", the executable takes ", ToString(specs[i])));
  }
  return absl::OkStatus();
}

absl::Status CheckFits(const ExecutableHeader& header, const RecordedSteps& recorded) {
  TFIPU_RETURN_IF_ERROR(CheckSizes("start-up inputs", header.startup_inputs(), recorded.startup_inputs()));
  for (const RecordedSteps::Step& step : recorded.steps()) {
    TFIPU_RETURN_IF_ERROR(CheckSizes("infeeds", header.infeeds(), step.infeeds()));
    TFIPU_RETURN_IF_ERROR(CheckSizes("outfeeds", header.outfeeds(), step.outfeeds()));
  }
  return absl::OkStatus();
}

void Compare(const TensorSpec& spec, const std::string& found, const std::string& expected,
             const std::string& where, Comparison& comparison) {
  const auto a = Numbers(spec.type(), found), b = Numbers(spec.type(), expected);
  if (!a.has_value()) {
    const std::size_t size = ElementSize(spec.type());
    for (std::size_t at = 0; at < found.size(); at += size) {
      ++comparison.values;
      comparison.unequal += std::memcmp(&found[at], &expected[at], size) != 0;
    }
    return;
  }
  double largest = std::numeric_limits<float>::min();
  for (const double value : *b) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  for (std::size_t i = 0; i < a->size(); ++i) {
    ++comparison.values;
    const double x = (*a)[i], y = (*b)[i];
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    double difference = std::abs(x - y) / largest;
    if (std::isnan(difference)) difference = std::numeric_limits<double>::infinity();
    if (difference <= comparison.largest_difference) continue;
    comparison.largest_difference = difference;
    comparison.where = absl::StrCat(where, ", element ", i, ": ", x, ", expected ", y);
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<Engine>> StartEngine(std::shared_ptr<Program> program,
                                                    const RecordedSteps& recorded, int replicas) {
  TFIPU_RETURN_IF_ERROR(CheckFits(program->executable().header(), recorded));
  std::vector<AlignedBuffer> buffers;
  std::vector<ConstBuffer> startup_inputs;
  for (const std::string& input : recorded.startup_inputs()) {
    buffers.push_back(Aligned(input));
    startup_inputs.push_back(buffers.back().span());
  }
  EngineOptions options;
  options.name = "check";
  options.replicas = replicas;
  return Engine::Start(std::move(options), std::move(program), startup_inputs);
}

absl::StatusOr<RecordedSteps> RecordSteps(std::shared_ptr<Program> program, int count, std::uint64_t seed) {
  const ExecutableHeader& header = program->executable().header();
  std::mt19937_64 random(seed);
  RecordedSteps recorded;
  recorded.set_program(header.name());
  for (const TensorSpec& spec : header.startup_inputs()) {
    recorded.add_startup_inputs(RandomBytes(spec, random));
  }
  TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, StartEngine(program, recorded, 1));
  for (int i = 0; i < count; ++i) {
    RecordedSteps::Step asked;
    for (const TensorSpec& spec : header.infeeds()) asked.add_infeeds(RandomBytes(spec, random));
    TFIPU_ASSIGN_OR_RETURN(*recorded.add_steps(), Answer(*engine, asked));
  }
  return recorded;
}

absl::StatusOr<Comparison> CompareSteps(std::shared_ptr<Program> program, const RecordedSteps& recorded) {
  const ExecutableHeader& header = program->executable().header();
  TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, StartEngine(program, recorded, 1));
  Comparison comparison;
  for (int i = 0; i < recorded.steps_size(); ++i) {
    const RecordedSteps::Step& expected = recorded.steps(i);
    TFIPU_ASSIGN_OR_RETURN(const RecordedSteps::Step found, Answer(*engine, expected));
    for (int k = 0; k < header.outfeeds_size(); ++k) {
      Compare(header.outfeeds(k), found.outfeeds(k), expected.outfeeds(k),
              absl::StrCat("step ", i, ", ", header.outfeeds(k).name()), comparison);
    }
  }
  return comparison;
}

absl::Status WriteSteps(const RecordedSteps& steps, const std::string& path) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << steps.SerializeAsString();
  file.close();
  if (file.good()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("Cannot write '", path, "'"));
}

absl::StatusOr<RecordedSteps> ReadSteps(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file.good()) return absl::NotFoundError(absl::StrCat("Cannot open '", path, "'"));
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  RecordedSteps steps;
  if (!steps.ParseFromString(bytes) || steps.steps().empty()) {
    return absl::InvalidArgumentError(absl::StrCat("'", path, "' does not hold recorded steps"));
  }
  return steps;
}

}  // namespace tfipu
