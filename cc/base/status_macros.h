// Passing absl::Status up the call stack.
//   TFIPU_RETURN_IF_ERROR(Write(path));
//   TFIPU_ASSIGN_OR_RETURN(std::size_t size, TensorSize(spec));
#ifndef CC_BASE_STATUS_MACROS_H_
#define CC_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define TFIPU_RETURN_IF_ERROR(expression)                                                  \
  do {                                                                                     \
    if (absl::Status tfipu_status = (expression); !tfipu_status.ok()) return tfipu_status; \
  } while (false)

#define TFIPU_ASSIGN_OR_RETURN(target, expression) \
  TFIPU_ASSIGN_OR_RETURN_(TFIPU_CONCAT_(tfipu_result_, __LINE__), target, expression)

#define TFIPU_ASSIGN_OR_RETURN_(result, target, expression) \
  auto result = (expression);                               \
  if (!result.ok()) return std::move(result).status();      \
  target = *std::move(result)

#define TFIPU_CONCAT_(a, b) TFIPU_CONCAT_EXPANDED_(a, b)
#define TFIPU_CONCAT_EXPANDED_(a, b) a##b

#endif  // CC_BASE_STATUS_MACROS_H_
