// What the log says of models.
#ifndef SERVING_SERVER_STATE_LOG_H_
#define SERVING_SERVER_STATE_LOG_H_

#include <set>

#include "serving/core/servable_directory.h"

namespace tfipu::serving {

// One line for each change of a version's state that an operator wants to know. A version that waits for
// files says so once, not for each piece of a file that comes. For one thread at a time.
class StateLog {
 public:
  void Changed(const ServableState& state);

 private:
  std::set<ServableId> waiting_;  // for files
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVER_STATE_LOG_H_
