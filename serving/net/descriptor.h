// A file descriptor with an owner.
#ifndef SERVING_NET_DESCRIPTOR_H_
#define SERVING_NET_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace tfipu::serving::net {

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    Close();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  ~Descriptor() { Close(); }

  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_DESCRIPTOR_H_
