#include "serving/rest/example_json.h"

#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "serving/json/reader.h"
#include "serving/json/writer.h"
#include "serving/rest/tensor_reader.h"
#include "tensorflow/core/example/example.pb.h"
#include "tensorflow/core/example/feature.pb.h"

namespace tfipu::serving {
namespace {

using tensorflow::Feature;

// Adds one value; the first decides of which kind the feature is.
bool ReadFeatureValue(json::Reader* reader, std::string* scratch, Feature* feature) {
  const char c = reader->Peek();
  Feature::KindCase kind;
  if (c == '"' || c == '{') {
    kind = Feature::kBytesList;
    absl::string_view bytes;
    if (!ReadBytes(reader, scratch, &bytes)) return false;
    if (feature->kind_case() == kind || feature->kind_case() == Feature::KIND_NOT_SET) {
      feature->mutable_bytes_list()->add_value(bytes.data(), bytes.size());
      return true;
    }
  } else if (c == 'n' || c == '[') {
    return reader->Fail(
        "A feature must be a number, true or false, a string, {\"b64\": \"...\"}, or a list of these");
  } else {
    const char* const start = reader->cursor();
    double value;
    bool whole;
    std::int64_t integer;
    if (c == 't' || c == 'f') {
      bool truth;
      if (!reader->ReadBool(&truth)) return false;
      whole = true;
      integer = truth ? 1 : 0;
    } else if (!reader->ReadNumber(&value, &whole, &integer)) {
      return false;
    }
    // A whole number that only uint64 can hold is a mistake; those beyond are floats, as in any JSON reader.
    const absl::string_view text(start, reader->cursor() - start);
    if (std::uint64_t beyond; !whole && absl::SimpleAtoi(text, &beyond)) {
      return reader->Fail(
          absl::StrCat("Feature value ", text.substr(0, 40), " is out of range for type: int64"));
    }
    kind = whole ? Feature::kInt64List : Feature::kFloatList;
    if (feature->kind_case() == kind || feature->kind_case() == Feature::KIND_NOT_SET) {
      if (whole) {
        feature->mutable_int64_list()->add_value(integer);
      } else {
        feature->mutable_float_list()->add_value(static_cast<float>(value));
      }
      return true;
    }
  }
  return reader->Fail(
      "The values of a feature must all be whole numbers (or true and false), all decimal numbers, or all "
      "strings");
}

bool ReadExample(json::Reader* reader, absl::string_view what, std::string* scratch,
                 tensorflow::Example* example) {
  if (reader->Peek() != '{') return reader->Fail(absl::StrCat(what, " must be JSON object"));
  if (!reader->Enter('{')) return false;
  auto& features = *example->mutable_features()->mutable_feature();
  absl::string_view name;
  while (reader->NextMember(&name)) {
    const auto [at, added] = features.insert({std::string(name), Feature()});
    if (!added) return reader->Fail(absl::StrCat("Feature ", name, " is given twice"));
    Feature* const feature = &at->second;
    if (reader->Peek() != '[') {
      if (!ReadFeatureValue(reader, scratch, feature)) return false;
      continue;
    }
    if (!reader->Enter('[')) return false;
    while (reader->NextElement()) {
      if (!ReadFeatureValue(reader, scratch, feature)) return false;
    }
  }
  return reader->ok();
}

}  // namespace

absl::Status ParseExamplesJson(absl::string_view body, int max_depth, std::string* signature_name,
                               tensorflow::serving::Input* input) {
  json::Reader reader(body, max_depth);
  if (reader.Peek() == '\0') return absl::InvalidArgumentError("JSON Parse error: The document is empty");
  bool name_found = false;
  bool context_found = false;
  bool examples_found = false;
  std::string scratch;
  tensorflow::serving::ExampleListWithContext list;
  absl::string_view key;
  reader.Enter('{');
  while (reader.NextMember(&key)) {
    bool* found = key == "signature_name" ? &name_found
                  : key == "context"      ? &context_found
                  : key == "examples"     ? &examples_found
                                          : nullptr;
    if (found == nullptr) {
      if (!reader.SkipValue()) break;
      continue;
    }
    if (*found) {
      reader.Fail(absl::StrCat("'", key, "' is given twice"));
      break;
    }
    *found = true;
    if (found == &name_found) {
      absl::string_view name;
      if (reader.Peek() != '"') {
        reader.Fail("'signature_name' key must be a string value.");
        break;
      }
      if (!reader.ReadString(&name)) break;
      *signature_name = std::string(name);
    } else if (found == &context_found) {
      if (!ReadExample(&reader, "'context'", &scratch, list.mutable_context())) break;
    } else {
      if (reader.Peek() != '[') {
        reader.Fail("'examples' must be a list of objects");
        break;
      }
      reader.Enter('[');
      while (reader.NextElement()) {
        if (!ReadExample(&reader, "Example", &scratch, list.add_examples())) break;
      }
    }
  }
  if (!reader.Finish()) return reader.status();
  if (!examples_found) return absl::InvalidArgumentError("Missing 'examples' key");
  if (context_found) {
    *input->mutable_example_list_with_context() = std::move(list);
  } else {
    *input->mutable_example_list()->mutable_examples() = std::move(*list.mutable_examples());
  }
  return absl::OkStatus();
}

void WriteClassifyJson(const tensorflow::serving::ClassificationResult& result, std::string* body) {
  json::Writer writer(body);
  writer.Raw("{\"results\": [");
  for (int i = 0; i < result.classifications_size(); ++i) {
    writer.Raw(i == 0 ? "[" : ", [");
    const tensorflow::serving::Classifications& classes = result.classifications(i);
    for (int k = 0; k < classes.classes_size(); ++k) {
      writer.Raw(k == 0 ? "[" : ", [");
      writer.String(classes.classes(k).label());
      writer.Raw(", ");
      writer.Float(classes.classes(k).score());
      writer.Raw("]");
    }
    writer.Raw("]");
  }
  writer.Raw("]}");
}

void WriteRegressJson(const tensorflow::serving::RegressionResult& result, std::string* body) {
  json::Writer writer(body);
  writer.Raw("{\"results\": [");
  for (int i = 0; i < result.regressions_size(); ++i) {
    if (i != 0) writer.Raw(", ");
    writer.Float(result.regressions(i).value());
  }
  writer.Raw("]}");
}

}  // namespace tfipu::serving
