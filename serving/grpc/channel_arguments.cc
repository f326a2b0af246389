#include "serving/grpc/channel_arguments.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdlib>

namespace tfipu::serving {
namespace {

// A whole number, which INT_MAX stands for none of in gRPC's times.
bool ParseInt(const std::string& text, int* value) {
  char* rest = nullptr;
  errno = 0;
  const long number = std::strtol(text.c_str(), &rest, 10);
  if (text.empty() || *rest != '\0' || errno != 0 || number < INT_MIN || number > INT_MAX) return false;
  *value = static_cast<int>(number);
  return true;
}

std::int64_t MillisToMicros(int millis) {
  return millis == INT_MAX || millis < 0 ? INT64_MAX : millis * INT64_C(1000);
}

}  // namespace

std::string ParseChannelArguments(const std::string& arguments, net::http2::Settings* settings,
                                  std::vector<std::string>* ignored) {
  for (std::size_t begin = 0; begin < arguments.size();) {
    const std::size_t end = std::min(arguments.find(',', begin), arguments.size());
    const std::string argument = arguments.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t equals = argument.find('=');
    if (equals == std::string::npos || equals == 0) {
      return "gRPC channel argument \"" + argument + "\" is not of the form key=value";
    }
    const std::string key = argument.substr(0, equals);
    int number = 0;
    const bool is_number = ParseInt(argument.substr(equals + 1), &number);
    if (key == "grpc.default_compression_algorithm") {
      if (!is_number || number < 0 || number > 2) {
        return "gRPC channel argument " + key + " must be 0 (none), 1 (deflate) or 2 (gzip)";
      }
      settings->reply_encoding.reset();
      if (number == 1) settings->reply_encoding = net::http2::MessageEncoding::kDeflate;
      if (number == 2) settings->reply_encoding = net::http2::MessageEncoding::kGzip;
      continue;
    }
    struct {
      const char* key;
      std::int64_t* micros;
    } const times[] = {{"grpc.keepalive_time_ms", &settings->keepalive_time},
                       {"grpc.keepalive_timeout_ms", &settings->keepalive_timeout},
                       {"grpc.max_connection_idle_ms", &settings->max_idle},
                       {"grpc.max_connection_age_ms", &settings->max_age},
                       {"grpc.max_connection_age_grace_ms", &settings->max_age_grace},
                       {"grpc.server_handshake_timeout_ms", &settings->handshake_timeout}};
    auto time = std::find_if(std::begin(times), std::end(times),
                             [&key](const auto& entry) { return key == entry.key; });
    if (time != std::end(times)) {
      if (!is_number) return "gRPC channel argument " + key + " must be a whole number of milliseconds";
      *time->micros = MillisToMicros(number);
    } else if (key == "grpc.max_concurrent_streams" || key == "grpc.max_metadata_size") {
      if (!is_number || number < 1)
        return "gRPC channel argument " + key + " must be a positive whole number";
      (key == "grpc.max_metadata_size" ? settings->max_header_bytes : settings->max_concurrent_streams) =
          number;
    } else if (key == "grpc.max_receive_message_length" || key == "grpc.max_send_message_length") {
      if (!is_number) return "gRPC channel argument " + key + " must be a whole number";
      if (key == "grpc.max_receive_message_length") {
        settings->max_request_bytes = number < 0 ? INT_MAX : number;
      } else {
        settings->max_reply_bytes = number < 0 ? UINT_MAX : number;
      }
    } else {
      ignored->push_back(key);
    }
  }
  return "";
}

}  // namespace tfipu::serving
