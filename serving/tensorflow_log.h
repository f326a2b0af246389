// TensorFlow's own log lines in the server's log.
#ifndef SERVING_TENSORFLOW_LOG_H_
#define SERVING_TENSORFLOW_LOG_H_

namespace tfipu::serving {

// From now on, TensorFlow's warnings and errors come as lines of the server's log, its information lines and
// known false alarms not at all. With TF_CPP_MIN_LOG_LEVEL set in the environment, everything of that level
// and above comes. Once.
void TakeTensorFlowLog();

}  // namespace tfipu::serving

#endif  // SERVING_TENSORFLOW_LOG_H_
