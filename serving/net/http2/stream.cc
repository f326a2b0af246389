#include "serving/net/http2/stream.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>

#include "serving/base/cut_text.h"

namespace tfipu::serving::net::http2 {
namespace {

constexpr std::size_t kWorkerStep = 1 << 20;  // of an inflation, before others have their turn
constexpr std::size_t kMaxWaiting = 4 << 20;  // more than a stream's window
constexpr int kReplyLevel = 6;                // zlib's default, as gRPC's own servers compress
// Of a text from the client within a message of ours.
constexpr std::size_t kMaxQuoted = 128;

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

std::int64_t UnixMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string LargerThan(std::size_t bytes, const char* how) {
  return "The request message is larger than " + std::to_string(bytes) + " bytes" + how;
}

constexpr char kHoldsTooMuch[] = "The server holds as much of requests and answers as it may; try again";

}  // namespace

Stream::Stream(StreamHost* host, EventLoop* loop, CallContext* context,
               std::shared_ptr<MemoryAccount> account, std::int32_t id)
    : host_(host),
      loop_(loop),
      context_(context),
      account_(std::move(account)),
      id_(id),
      reader_(account_.get(), context->settings.max_request_bytes),
      waiting_(account_.get()),
      inflated_(account_.get()) {
  counted_ = sizeof(*this);
  account_->Must(counted_);
}

Stream::~Stream() { account_->Give(counted_ + on_hold_); }

std::string_view Stream::metadata(std::string_view key) const {
  for (const auto& [name, value] : headers_) {
    if (name == key) return value;
  }
  return {};
}

bool Stream::OnHeader(std::string_view name, std::string_view value) {
  const std::size_t size = name.size() + value.size() + 32;
  header_bytes_ += size;
  if (header_bytes_ > context_->settings.max_header_bytes) return false;
  if (name.empty() || headers_over_) return true;
  if (name[0] == ':') {
    if (name == ":path") {
      auto found = context_->methods.find(value);
      if (found != context_->methods.end()) {
        method_ = &found->second;
      } else {
        path_ = base::CutText(value, kMaxQuoted);
      }
    } else if (name == ":method") {
      is_post_ = value == "POST";
    }
  } else if (name == "content-type") {
    is_grpc_ = StartsWith(value, "application/grpc");
  } else if (name == "grpc-timeout") {
    if (auto timeout = ParseTimeout(value)) {
      deadline_ = UnixMicros() + *timeout;
    } else {
      bad_timeout_ = "\"" + std::string(base::CutText(value, kMaxQuoted)) + "\"";
    }
  } else if (name == "grpc-encoding") {
    if (auto encoding = EncodingOf(value)) {
      encoding_ = *encoding;
    } else {
      bad_encoding_ = true;
    }
  } else if (name == "grpc-accept-encoding") {
    if (context_->settings.reply_encoding) {
      accepts_reply_encoding_ =
          value.find(EncodingName(*context_->settings.reply_encoding)) != std::string_view::npos;
    }
  } else if (name != "te" && name != "user-agent") {
    headers_over_ = !account_->Take(size);
    if (headers_over_) return true;
    counted_ += size;
    headers_.emplace_back(name, value);
  }
  return true;
}

void Stream::OnHeadersEnd() {
  if (!is_post_ || !is_grpc_) {
    ending_ = headers_sent_ = true;
    host_->SendHttpError(this, is_post_ ? "415" : "405");
  } else if (method_ == nullptr) {
    End(kUnimplemented, "There is no method " + path_);
  } else if (bad_encoding_) {
    End(kUnimplemented, "The encoding of the request's messages is not known here");
  } else if (!bad_timeout_.empty()) {
    End(kInternal, "The header grpc-timeout is " + bad_timeout_ +
                       ", expected up to eight digits and one of H, M, S, m, u, n");
  } else if (headers_over_) {
    End(kResourceExhausted, kHoldsTooMuch);
  }
}

void Stream::OnData(std::string_view data) {
  if (ending_) return;
  const bool busy = step_ != Step::kReceiving || reply_pending() || !waiting_.empty();
  if (streaming()) {
    const std::size_t size = data.size();
    if (!busy) TakeData(&data);
    if (ending_) return;
    if (data.size() < size) host_->Consumed(this, size - data.size());
    return Wait(data);
  }
  host_->Consumed(this, data.size());
  if (!busy) TakeData(&data);
  if (data.empty() || ending_) return;
  End(kInternal, "A call of this method has one request message, this one has more");
}

void Stream::Wait(std::string_view data) {
  if (data.empty()) return;
  if (waiting_begin_ > waiting_.size() / 2) {
    waiting_.RemovePrefix(std::exchange(waiting_begin_, 0));
  }
  if (!waiting_.Append(data, kMaxWaiting)) End(kResourceExhausted, kHoldsTooMuch);
}

void Stream::TakeData(std::string_view* data) {
  if (data->empty()) return;
  switch (reader_.Add(data)) {
    case MessageReader::Result::kIncomplete:
      return;
    case MessageReader::Result::kTooLarge:
      return End(kResourceExhausted, LargerThan(context_->settings.max_request_bytes, ""));
    case MessageReader::Result::kNoMemory:
      return End(kResourceExhausted, kHoldsTooMuch);
    case MessageReader::Result::kMessage:
      break;
  }
  bool compressed = false;
  Buffer message = reader_.TakeMessage(&compressed);
  OnMessage(std::move(message), compressed);
}

void Stream::OnMessage(Buffer message, bool compressed) {
  if (!compressed) return OnPlainMessage(std::move(message));
  if (encoding_ == MessageEncoding::kIdentity) {
    return End(kInternal, "A message is compressed, but the request names no encoding");
  }
  message_ = std::move(message);
  inflater_.emplace(FormatOf(encoding_), message_.view(), context_->settings.max_request_bytes, &inflated_);
  const Inflater::Result result = inflater_->Run(kSmallInflation);
  if (result != Inflater::Result::kMore) return OnInflated(result);
  step_ = Step::kInflating;
  if (context_->workers != nullptr && context_->workers->Do(this)) return;
  step_ = Step::kReceiving;
  OnInflated(Inflater::Result::kNoMemory);
}

void Stream::OnInflated(Inflater::Result result) {
  inflater_.reset();
  message_.Clear();
  Buffer plain = std::exchange(inflated_, Buffer(account_.get()));
  if (ending_) return;
  switch (result) {
    case Inflater::Result::kDone:
      return OnPlainMessage(std::move(plain));
    case Inflater::Result::kTooLarge:
      return End(kResourceExhausted, LargerThan(context_->settings.max_request_bytes, " when decompressed"));
    case Inflater::Result::kNoMemory:
      return End(kResourceExhausted, kHoldsTooMuch);
    default:
      return End(kInternal, "Could not decompress the request message");
  }
}

void Stream::OnPlainMessage(Buffer message) {
  message_ = std::move(message);
  step_ = Step::kComplete;
  MaybeReady();
}

void Stream::MaybeReady() {
  if (step_ != Step::kComplete || ending_) return;
  // Of a unary call, the end shows that there is no second message.
  if (!streaming() && !client_ended_) return;
  if (watching()) return StartWatch();
  step_ = Step::kReady;
  host_->OnReady(this);
}

void Stream::OnClientEnd() {
  client_ended_ = true;
  if (ending_) return;
  if (!waiting_.empty()) return;  // what is in there comes first
  if (reader_.partial()) return End(kInternal, "The request ended within a message");
  if (step_ == Step::kComplete) return MaybeReady();
  if (step_ != Step::kReceiving) return;
  if (!streaming()) return End(kInternal, "A call of this method has one request message, this one has none");
  if (reply_pending()) return;
  ending_ = true;
  if (headers_sent_) {
    host_->SendMore(this);
  } else {
    headers_sent_ = true;
    host_->SendHeaders(this, true);
  }
}

void Stream::StartWatch() {
  watched_ = message_.view();
  message_.Clear();
  if (!method_->watch(watched_, &told_)) return End(kInvalidArgument, "The request cannot be read");
  if (void* bytes = AllocateReply(told_.size())) std::memcpy(bytes, told_.data(), told_.size());
  if (reply_refused_) return End(kResourceExhausted, kHoldsTooMuch);
  PushReply(std::move(reply_));
}

void Stream::OnNotified() {
  // One message is on its way at a time: who takes it late gets the one of then next.
  if (!watching() || ending_ || step_ != Step::kComplete || reply_pending()) return;
  std::string now;
  if (!method_->watch(watched_, &now) || now == told_) return;
  told_ = std::move(now);
  if (void* bytes = AllocateReply(told_.size())) std::memcpy(bytes, told_.data(), told_.size());
  if (reply_refused_) return End(kResourceExhausted, kHoldsTooMuch);
  PushReply(std::move(reply_));
}

void Stream::BeginMethod() {
  step_ = Step::kWithMethod;
  request_ = std::move(message_);
  request_slices_.assign(1, Slice{request_.data(), request_.size()});
}

void Stream::ReleaseRequest() {
  request_slices_.clear();
  request_.Clear();
}

bool Stream::AtEndOfRound(std::function<void()> callback) {
  // The method may run on another loop's thread than the connection's.
  if (EventLoop::Current() == nullptr) return false;
  EventLoop::Current()->AtEndOfRound(std::move(callback));
  return true;
}

bool Stream::Hold(std::size_t bytes) {
  if (!account_->Take(bytes)) return false;
  on_hold_ += bytes;
  return true;
}

void* Stream::AllocateReply(std::size_t size) {
  reply_ = Buffer(account_.get());
  if (!reply_.Reserve(kMessagePrefix + size)) {
    reply_refused_ = true;
    return nullptr;
  }
  reply_.set_size(kMessagePrefix + size);
  WriteMessagePrefix(reply_.data(), false, size);
  return reply_.data() + kMessagePrefix;
}

void Stream::Finish(RpcStatus status) {
  status_ = std::move(status);
  if (status_.code == 0 && !reply_refused_ && reply_.capacity() == 0) AllocateReply(0);
  if (status_.code == 0 && accepts_reply_encoding_ && !reply_refused_) {
    packing_ = true;
    if (reply_.size() > kSmallInflation && InThread() && context_->workers != nullptr &&
        context_->workers->Do(this)) {
      return;
    }
    PackReply();
  }
  DeliverFinish();
}

void Stream::PackReply() {
  packing_ = false;
  Buffer packed(account_.get());
  const std::string_view plain = reply_.view().substr(kMessagePrefix);
  if (plain.size() > context_->settings.max_reply_bytes ||
      !DeflateIfSmaller(FormatOf(*context_->settings.reply_encoding), kReplyLevel, plain, kMessagePrefix,
                        &packed)) {
    return;
  }
  WriteMessagePrefix(packed.data(), true, packed.size() - kMessagePrefix);
  reply_ = std::move(packed);
}

void Stream::DeliverFinish() {
  if (InThread()) {
    OnMail();
  } else {
    loop_->Post(static_cast<Mail*>(this));
  }
}

bool Stream::DoPart() {
  if (packing_) {
    PackReply();
  } else {
    inflate_result_ = cancelled() ? Inflater::Result::kCorrupt : inflater_->Run(kWorkerStep);
    if (inflate_result_ == Inflater::Result::kMore) return true;
  }
  loop_->Post(static_cast<Mail*>(this));
  return false;
}

void Stream::OnMail() {
  if (step_ == Step::kWithMethod) context_->calls.fetch_sub(1, std::memory_order_relaxed);
  if (host_ == nullptr) {
    delete this;
  } else {
    host_->OnStreamMail(this);
  }
}

void Stream::Finished() {
  if (step_ == Step::kInflating) {
    step_ = Step::kReceiving;
    OnInflated(inflate_result_);
    if (client_ended_ && step_ == Step::kReceiving) OnClientEnd();
    return;
  }
  step_ = Step::kReceiving;
  request_.Clear();
  request_slices_.clear();
  account_->Give(std::exchange(on_hold_, 0));
  Buffer reply = std::move(reply_);
  if (ending_) return;  // the deadline was faster
  if (reply_refused_) return End(kResourceExhausted, kHoldsTooMuch);
  if (status_.code != 0) return End(status_.code, status_.message);
  // Nothing more can come.
  ending_ = !streaming() || (client_ended_ && waiting_.empty() && !reader_.partial());
  PushReply(std::move(reply));
}

void Stream::PushReply(Buffer reply) {
  const std::size_t size = reply.size() - kMessagePrefix;
  if (size > context_->settings.max_reply_bytes) {
    return End(kResourceExhausted, "The reply has " + std::to_string(size) + " bytes, more than the " +
                                       std::to_string(context_->settings.max_reply_bytes) +
                                       " that this server may send");
  }
  reply_out_ = std::move(reply);
  reply_taken_ = 0;
  if (headers_sent_) return host_->SendMore(this);
  headers_sent_ = true;
  host_->SendHeaders(this, true);
}

void Stream::End(int code, std::string_view message) {
  ending_ = true;
  end_code_ = code;
  end_message_ = PercentEncode(message);
  waiting_.Clear();
  waiting_begin_ = 0;
  reader_.Clear();
  // A worker may be reading it.
  if (step_ != Step::kInflating) message_.Clear();
  // The rest of what was sent goes first.
  if (headers_sent_) return host_->SendMore(this);
  headers_sent_ = true;
  host_->SendHeaders(this, false);
}

std::size_t Stream::ReadReply(std::size_t length, bool* end) {
  const std::size_t left = reply_out_.size() - reply_taken_;
  const std::size_t given = std::min(length, left);
  *end = given == left && ending_;
  return given;
}

std::string_view Stream::TakeReply(std::size_t length) {
  const std::string_view bytes = reply_out_.view().substr(reply_taken_, length);
  reply_taken_ += length;
  if (reply_taken_ == reply_out_.size() && !ending_) host_->OnAnswerTaken(this);
  return bytes;
}

void Stream::OnAnswerLeft() {
  if (ending_ || reply_taken_ < reply_out_.size()) return;
  reply_out_.Clear();
  reply_taken_ = 0;
  if (watching()) return OnNotified();
  if (streaming() && step_ == Step::kReceiving) NextMessage();
}

void Stream::NextMessage() {
  std::string_view rest = waiting_.view().substr(waiting_begin_);
  const std::size_t size = rest.size();
  TakeData(&rest);
  if (ending_) return;
  if (rest.size() < size) host_->Consumed(this, size - rest.size());
  waiting_begin_ += size - rest.size();
  if (rest.empty()) {
    waiting_.Clear();
    waiting_begin_ = 0;
  }
  if (client_ended_ && waiting_.empty() && step_ == Step::kReceiving) OnClientEnd();
}

bool Stream::Detach() {
  host_ = nullptr;
  Cancel();
  return step_ != Step::kInflating && step_ != Step::kWithMethod;
}

}  // namespace tfipu::serving::net::http2
