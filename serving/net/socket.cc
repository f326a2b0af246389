#include "serving/net/socket.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace tfipu::serving::net {
namespace {

// With TLS, what is encrypted ahead of the socket.
constexpr std::size_t kMaxWaiting = 64 << 10;

}  // namespace

bool Socket::Watch(SocketWatcher* watcher) {
  return loop_->Watch(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, watcher);
}

void Socket::OnEvents(std::uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) writable_ = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) half_closed_ = true;
}

long Socket::ReceiveRaw(char* data, std::size_t size) {
  if (!readable_) return -1;
  long got;
  do {
    got = recv(fd_.get(), data, size, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    readable_ = false;
    return -1;
  }
  if (got <= 0) return 0;
  // Unless the end of the stream is behind it, for which no further event comes.
  if (static_cast<std::size_t>(got) < size) readable_ = half_closed_;
  return got;
}

long Socket::Receive(char* data, std::size_t size) {
  if (tls_ == nullptr) return ReceiveRaw(data, size);
  const int most = static_cast<int>(std::min<std::size_t>(size, 1 << 30));
  while (true) {
    const int plain = tls_->Read(data, most);
    if (!Flush()) return 0;
    if (plain != 0) return std::max(plain, 0);
    // `data` may be this buffer; nothing of it is in use yet.
    const long got = ReceiveRaw(loop_->read_buffer(), EventLoop::kReadBuffer);
    if (got <= 0) return got;
    if (!tls_->Feed({loop_->read_buffer(), static_cast<std::size_t>(got)})) return 0;
  }
}

bool Socket::SendRaw(const iovec* parts, int count, std::size_t* sent) {
  *sent = 0;
  if (!writable_) return true;
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = static_cast<std::size_t>(count);
  long taken;
  do {
    taken = sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  } while (taken < 0 && errno == EINTR);
  if (taken < 0) {
    writable_ = false;
    return errno == EAGAIN || errno == EWOULDBLOCK;
  }
  *sent = static_cast<std::size_t>(taken);
  return true;
}

bool Socket::Flush() {
  if (tls_ == nullptr) return true;
  tls_->TakeOutput(&waiting_);
  while (waiting_begin_ < waiting_.size() && writable_) {
    const iovec part = {waiting_.data() + waiting_begin_, waiting_.size() - waiting_begin_};
    std::size_t sent = 0;
    if (!SendRaw(&part, 1, &sent)) return false;
    waiting_begin_ += sent;
  }
  if (waiting_begin_ == waiting_.size()) {
    waiting_.clear();
    waiting_begin_ = 0;
  }
  return true;
}

bool Socket::Send(const iovec* parts, int count, std::size_t* sent) {
  // What is left of the first part that was not sent whole is the caller's next call.
  if (tls_ == nullptr) return SendRaw(parts, count, sent);
  *sent = 0;
  if (!tls_->handshake_done()) return Flush();
  for (int i = 0; i < count; ++i) {
    std::size_t done = 0;
    while (done < parts[i].iov_len) {
      if (!Flush()) return false;
      if (pending()) return true;
      const std::size_t size = std::min(parts[i].iov_len - done, kMaxWaiting);
      if (!tls_->Write({static_cast<const char*>(parts[i].iov_base) + done, size})) return false;
      done += size;
      *sent += size;
    }
  }
  return Flush();
}

void Socket::SendEnd() {
  if (tls_ != nullptr) {
    tls_->End();
    Flush();
  }
  shutdown(fd_.get(), SHUT_WR);
}

void Socket::Close(SocketWatcher* watcher) {
  if (!fd_.ok()) return;
  loop_->Unwatch(fd_.get(), watcher);
  fd_.Close();
}

}  // namespace tfipu::serving::net
