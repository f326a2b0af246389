#include "cc/device/backends.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/base/status_macros.h"
#include "cc/executable/compatibility.h"

namespace tfipu {
namespace {

std::string NameOf(Target::KindCase kind) {
  const auto* field = Target::descriptor()->FindFieldByNumber(kind);
  return field == nullptr ? absl::StrCat("unknown kind ", static_cast<int>(kind))
                          : std::string(field->name());
}

}  // namespace

Backends::Backends(const std::vector<Backend*>& backends) {
  for (Backend* backend : backends) backends_[backend->kind()] = backend;
}

absl::StatusOr<Backend*> Backends::BackendOf(const Target& target) const {
  const auto found = backends_.find(target.kind_case());
  if (found != backends_.end()) return found->second;
  const std::string here = absl::StrJoin(backends_, ", ", [](std::string* out, const auto& entry) {
    absl::StrAppend(out, NameOf(entry.first));
  });
  return Incompatible("a device of kind", absl::StrCat("'", NameOf(target.kind_case()), "'"), here,
                      "Export the model for one of them.");
}

absl::Status Backends::Check(const ExecutableHeader& header) const {
  TFIPU_ASSIGN_OR_RETURN(Backend * backend, BackendOf(header.target()));
  if (RuntimeHashCheckEnabled()) TFIPU_RETURN_IF_ERROR(CheckRuntimeHash(header.build()));
  return backend->Check(header);
}

absl::StatusOr<std::shared_ptr<Program>> Backends::Load(std::shared_ptr<const Executable> executable) const {
  TFIPU_RETURN_IF_ERROR(Check(executable->header()));
  TFIPU_ASSIGN_OR_RETURN(Backend * backend, BackendOf(executable->header().target()));
  return backend->Load(std::move(executable));
}

std::vector<Offer> Backends::Offers() const {
  std::vector<Offer> all;
  for (const auto& [kind, backend] : backends_) {
    for (Offer& offer : backend->Offers()) all.push_back(std::move(offer));
  }
  return all;
}

}  // namespace tfipu
