#include "serving/grpc/grpc_server.h"

#include <grpc/slice.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/codegen/server_callback_handlers.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <utility>

namespace tfipu::serving {
namespace {

using grpc::ByteBuffer;

std::int64_t UnixMicros(std::chrono::system_clock::time_point time) {
  if (time == std::chrono::system_clock::time_point::max()) return INT64_MAX;
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

// The bytes of a message, without copying them.
class MessageBytes {
 public:
  bool Set(const ByteBuffer& message) {
    if (message.TrySingleSlice(&single_).ok()) {
      slices_.assign(1, Slice{single_.begin(), single_.size()});
      return true;
    }
    if (!message.Dump(&parts_).ok()) return false;
    slices_.clear();
    for (const grpc::Slice& part : parts_) slices_.push_back(Slice{part.begin(), part.size()});
    return true;
  }
  const std::vector<Slice>& slices() const { return slices_; }

 private:
  grpc::Slice single_;
  std::vector<grpc::Slice> parts_;
  std::vector<Slice> slices_;
};

// What unary and streamed calls have in common.
class CallBase : public RpcCall {
 public:
  explicit CallBase(grpc::CallbackServerContext* context) : context_(context) {}

  const std::vector<Slice>& request() const override { return bytes_.slices(); }
  std::int64_t deadline_unix_us() const override { return UnixMicros(context_->deadline()); }
  std::string_view metadata(std::string_view key) const override {
    const auto& all = context_->client_metadata();
    auto found = all.find(grpc::string_ref(key.data(), key.size()));
    return found == all.end() ? std::string_view() : std::string_view(found->second.data(), found->second.size());
  }
  bool cancelled() const override { return context_->IsCancelled(); }
  void* AllocateReply(std::size_t size) override {
    // grpc_slice_malloc keeps short slices inside the handle, whose address changes as it is moved.
    grpc_slice slice = grpc_slice_malloc_large(size);
    void* data = GRPC_SLICE_START_PTR(slice);
    reply_ = grpc::Slice(slice, grpc::Slice::STEAL_REF);
    return data;
  }

 protected:
  ~CallBase() = default;

  grpc::CallbackServerContext* const context_;
  MessageBytes bytes_;
  grpc::Slice reply_;
};

// Bounds the calls in flight.
class CallLimit {
 public:
  explicit CallLimit(std::size_t max_calls) : max_calls_(max_calls) {}
  bool Enter() {
    if (max_calls_ == 0) return true;
    if (calls_.fetch_add(1, std::memory_order_relaxed) < max_calls_) return true;
    calls_.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  void Leave() {
    if (max_calls_ != 0) calls_.fetch_sub(1, std::memory_order_relaxed);
  }
  grpc::Status Refusal() const {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                        "The server already has " + std::to_string(max_calls_) + " calls in flight");
  }

 private:
  const std::size_t max_calls_;
  std::atomic<std::size_t> calls_{0};
};

class UnaryCall final : public grpc::ServerUnaryReactor, public CallBase {
 public:
  UnaryCall(grpc::CallbackServerContext* context, ByteBuffer* response, CallLimit* limit)
      : CallBase(context), response_(response), limit_(limit) {}

  void Start(const ByteBuffer& request, const std::function<void(RpcCall*)>& handle) {
    admitted_ = limit_->Enter();
    if (!admitted_) {
      ServerUnaryReactor::Finish(limit_->Refusal());
    } else if (!bytes_.Set(request)) {
      ServerUnaryReactor::Finish(grpc::Status(grpc::StatusCode::INTERNAL, "Could not decompress the request"));
    } else {
      handle(this);
    }
  }

  void Finish(RpcStatus status) override {
    if (status.code != 0) {
      ServerUnaryReactor::Finish(grpc::Status(static_cast<grpc::StatusCode>(status.code), status.message));
      return;
    }
    *response_ = ByteBuffer(&reply_, 1);
    ServerUnaryReactor::Finish(grpc::Status::OK);
  }

 private:
  void OnDone() override {
    if (admitted_) limit_->Leave();
    delete this;
  }
  // OnDone is short, and the executor that would run it otherwise is another thread.
  bool InternalInlineable() override { return true; }

  ByteBuffer* const response_;
  CallLimit* const limit_;
  bool admitted_ = false;
};

class StreamCall final : public grpc::ServerBidiReactor<ByteBuffer, ByteBuffer>, public CallBase {
 public:
  using Base = grpc::ServerBidiReactor<ByteBuffer, ByteBuffer>;

  StreamCall(grpc::CallbackServerContext* context, const std::function<void(RpcCall*)>& handle)
      : CallBase(context), handle_(handle) {
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      Base::Finish(grpc::Status::OK);
    } else if (!bytes_.Set(request_)) {
      Base::Finish(grpc::Status(grpc::StatusCode::INTERNAL, "Could not decompress the request"));
    } else {
      handle_(this);
    }
  }
  void Finish(RpcStatus status) override {
    if (status.code != 0) {
      Base::Finish(grpc::Status(static_cast<grpc::StatusCode>(status.code), status.message));
      return;
    }
    response_ = ByteBuffer(&reply_, 1);
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (ok) {
      StartRead(&request_);
    } else {
      Base::Finish(grpc::Status::CANCELLED);
    }
  }
  void OnDone() override { delete this; }

 private:
  const std::function<void(RpcCall*)>& handle_;
  ByteBuffer request_;
  ByteBuffer response_;
};

// Methods by path, their messages left as bytes.
class RawService final : public grpc::Service {
 public:
  RawService(std::vector<RpcMethod> methods, std::size_t max_calls) : methods_(std::move(methods)), limit_(max_calls) {
    int index = 0;
    for (const RpcMethod& method : methods_) {
      if (method.streaming) {
        AddMethod(new grpc::internal::RpcServiceMethod(method.path.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING,
                                                       nullptr));
        MarkMethodRawCallback(index, new grpc::internal::CallbackBidiHandler<ByteBuffer, ByteBuffer>(
                                         [&method](grpc::CallbackServerContext* context) {
                                           return new StreamCall(context, method.handle);
                                         }));
      } else {
        AddMethod(
            new grpc::internal::RpcServiceMethod(method.path.c_str(), grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
        MarkMethodRawCallback(index, new grpc::internal::CallbackUnaryHandler<ByteBuffer, ByteBuffer>(
                                         [this, &method](grpc::CallbackServerContext* context,
                                                         const ByteBuffer* request, ByteBuffer* response) {
                                           auto* call = new UnaryCall(context, response, &limit_);
                                           call->Start(*request, method.handle);
                                           return call;
                                         }));
      }
      ++index;
    }
  }

 private:
  const std::vector<RpcMethod> methods_;
  CallLimit limit_;
};

// Adds "key=value,key=value". The error text, or empty.
std::string AddChannelArguments(const std::string& arguments, grpc::ServerBuilder* builder) {
  for (std::size_t begin = 0; begin < arguments.size();) {
    const std::size_t end = std::min(arguments.find(',', begin), arguments.size());
    const std::string argument = arguments.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t equals = argument.find('=');
    if (equals == std::string::npos || equals == 0) {
      return "gRPC channel argument \"" + argument + "\" is not of the form key=value";
    }
    const std::string key = argument.substr(0, equals);
    const std::string value = argument.substr(equals + 1);
    char* rest = nullptr;
    errno = 0;
    const long number = std::strtol(value.c_str(), &rest, 10);
    if (!value.empty() && *rest == '\0' && errno == 0 && number >= INT_MIN && number <= INT_MAX) {
      builder->AddChannelArgument(key, static_cast<int>(number));
    } else {
      builder->AddChannelArgument(key, value);
    }
  }
  return "";
}

std::shared_ptr<grpc::ServerCredentials> Credentials(const std::optional<GrpcTls>& tls) {
  if (!tls) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options(tls->client_verify
                                                ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                                : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  options.pem_root_certs = tls->custom_ca;
  options.pem_key_cert_pairs.push_back({tls->server_key, tls->server_cert});
  return grpc::SslServerCredentials(options);
}

}  // namespace

class GrpcServer::Impl {
 public:
  Impl(std::vector<RpcMethod> methods, std::size_t max_calls) : service_(std::move(methods), max_calls) {}

  RawService service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::once_flag shutdown_;
};

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GrpcServer::~GrpcServer() { Shutdown(std::chrono::milliseconds(0)); }

std::unique_ptr<GrpcServer> GrpcServer::Start(GrpcServerOptions options, std::vector<RpcMethod> methods,
                                              std::string* error) {
  auto impl = std::make_unique<Impl>(std::move(methods), options.max_calls);
  // Process-wide in gRPC.
  grpc::EnableDefaultHealthCheckService(options.health_service);
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(
      static_cast<int>(std::min(options.max_request_bytes, static_cast<std::size_t>(INT_MAX))));
  builder.SetMaxSendMessageSize(-1);
  // A port that another server already listens on is an error.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  *error = AddChannelArguments(options.channel_arguments, &builder);
  if (!error->empty()) return nullptr;
  std::string addresses;
  if (options.port) {
    const std::string address = options.host + ":" + std::to_string(*options.port);
    builder.AddListeningPort(address, Credentials(options.tls), &impl->port_);
    addresses = address;
  }
  if (!options.unix_socket_path.empty()) {
    const std::string address = "unix:" + options.unix_socket_path;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    addresses += (addresses.empty() ? "" : " and ") + address;
  }
  if (addresses.empty()) {
    *error = "A gRPC server needs a TCP port or a Unix socket to listen on";
    return nullptr;
  }
  builder.RegisterService(&impl->service_);
  impl->server_ = builder.BuildAndStart();
  if (impl->server_ == nullptr) {
    *error = "Could not listen for gRPC on " + addresses + (options.tls ? " with TLS" : "") +
             ": the address is in use or not allowed" + (options.tls ? ", or the key and certificates do not fit" : "");
    return nullptr;
  }
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

int GrpcServer::port() const { return impl_->port_; }

void GrpcServer::SetHealth(const std::string& service, bool serving) {
  if (auto* health = impl_->server_->GetHealthCheckService()) health->SetServingStatus(service, serving);
}

void GrpcServer::Shutdown(std::chrono::milliseconds drain) {
  std::call_once(impl_->shutdown_, [&] { impl_->server_->Shutdown(std::chrono::system_clock::now() + drain); });
}

}  // namespace tfipu::serving
