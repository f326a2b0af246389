// absl::Status as a Python exception.
#ifndef PYTHON_BINDINGS_STATUS_ERROR_H_
#define PYTHON_BINDINGS_STATUS_ERROR_H_

#include <pybind11/pybind11.h>

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tfipu {

// Becomes `StatusError(code, message)` in Python. Thrown by the bindings only, below which errors are values.
class StatusException : public std::exception {
 public:
  explicit StatusException(absl::Status status) : status_(std::move(status)) {}
  const absl::Status& status() const { return status_; }
  const char* what() const noexcept override { return "StatusError"; }

 private:
  absl::Status status_;
};

inline void ThrowIfError(const absl::Status& status) {
  if (!status.ok()) throw StatusException(status);
}

template <typename T>
T ValueOrThrow(absl::StatusOr<T> value) {
  ThrowIfError(value.status());
  return *std::move(value);
}

// Adds the exception type to the module.
void DefineStatusError(pybind11::module_& module);

}  // namespace tfipu

#endif  // PYTHON_BINDINGS_STATUS_ERROR_H_
