// gRPC's server arguments.
#ifndef SERVING_GRPC_CHANNEL_ARGUMENTS_H_
#define SERVING_GRPC_CHANNEL_ARGUMENTS_H_

#include <string>
#include <vector>

#include "serving/net/http2/settings.h"

namespace tfipu::serving {

// Reads "key=value,key=value" into settings; the keys that have an effect are listed in grpc_server.h, others
// are added to `ignored`. Returns what is wrong, or nothing.
std::string ParseChannelArguments(const std::string& arguments, net::http2::Settings* settings,
                                  std::vector<std::string>* ignored);

}  // namespace tfipu::serving

#endif  // SERVING_GRPC_CHANNEL_ARGUMENTS_H_
