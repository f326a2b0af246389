#include "cc/device/pjrt/flights.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"

namespace tfipu {

DeviceFailure FailureOf(const absl::Status& status) {
  const bool may_pass = status.code() == absl::StatusCode::kResourceExhausted;
  return {
      may_pass ? DeviceFailure::Kind::kApplicationError : DeviceFailure::Kind::kDeviceError,
      may_pass ? "RESET" : "",
      absl::StrCat("the PJRT plugin says ", absl::StatusCodeToString(status.code()), ": ", status.message())};
}

Flights::Flights(const Plugin* plugin, std::size_t room, absl::Duration step_timeout)
    : plugin_(plugin), room_(room), step_timeout_(absl::ToChronoNanoseconds(step_timeout)) {}

void Flights::Begin(StepSource* source) {
  std::lock_guard<std::mutex> lock(mutex_);
  source_ = source;
  interrupted_ = false;
}

Step* Flights::Next() {
  std::unique_lock<std::mutex> lock(mutex_);
  // A batch is taken only when there is room for it: until then it may still be answered by another device.
  while (inside_.size() >= room_ && !failure_.has_value()) {
    WaitForPlugin(lock);
    Release(lock);
  }
  if (failure_.has_value()) return nullptr;
  waiting_for_source_ = true;
  Step* step;
  do {
    lock.unlock();
    step = source_->NextStep();
    lock.lock();
    waiting_for_source_ = false;
    // An interrupted source owes one nullptr, be it from the next call.
  } while (interrupted_ && step != nullptr);
  return failure_.has_value() ? nullptr : step;
}

void Flights::Enter(const std::shared_ptr<Flight>& flight) {
  std::lock_guard<std::mutex> lock(mutex_);
  flight->pending = 1;
  if (failure_.has_value()) return;
  if (inside_.empty()) front_since_ = Clock::now();
  inside_.push_back(flight);
}

void Flights::Await(const std::shared_ptr<Flight>& flight, PJRT_Event* event) {
  if (event == nullptr) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++flight->pending;
  }
  WhenReady(plugin_, event, [self = shared_from_this(), flight](absl::Status status) {
    std::unique_lock<std::mutex> lock(self->mutex_);
    self->Arrived(flight, status);
    if (self->room_ > 1) self->Release(lock);
  });
}

void Flights::Launched(const std::shared_ptr<Flight>& flight, absl::Status status) {
  std::unique_lock<std::mutex> lock(mutex_);
  Arrived(flight, status);
  Release(lock);
  if (room_ > 1) return;
  while (!inside_.empty() && !failure_.has_value()) {
    WaitForPlugin(lock);
    Release(lock);
  }
}

void Flights::Arrived(const std::shared_ptr<Flight>& flight, const absl::Status& status) {
  if (flight->status.ok()) flight->status = status;
  if (--flight->pending == 0) changed_.notify_all();
}

void Flights::Release(std::unique_lock<std::mutex>& lock) {
  if (releasing_) return;  // one thread at a time; it sees what becomes ready meanwhile
  releasing_ = true;
  while (!failure_.has_value() && !inside_.empty() && inside_.front()->pending == 0) {
    const std::shared_ptr<Flight> flight = inside_.front();
    absl::Status status = flight->status;
    if (status.ok()) {
      lock.unlock();
      status = Deliver(*flight);
      lock.lock();
      // Nobody takes a step away while its thread is here, but by giving up all.
      if (failure_.has_value()) break;
    }
    if (!status.ok()) {
      Fail(FailureOf(status));
      break;
    }
    inside_.pop_front();
    front_since_ = Clock::now();
    lock.unlock();
    source_->StepDone(flight->step);
    lock.lock();
    changed_.notify_all();
  }
  releasing_ = false;
  changed_.notify_all();
}

absl::Status Flights::Deliver(const Flight& flight) const {
  for (const Flight::Result& result : flight.results) {
    const void* bytes = result.staging.data();
    if (result.buffer != nullptr) {
      TFIPU_ASSIGN_OR_RETURN(bytes, result.buffer->HostPointer());
      if (bytes == nullptr && result.size > 0) return absl::InternalError("a result lies nowhere");
    }
    if (result.size > 0) std::memcpy(flight.step->outfeeds[result.outfeed].data(), bytes, result.size);
  }
  return absl::OkStatus();
}

void Flights::Fail(DeviceFailure failure) {
  if (failure_.has_value()) return;
  failure_ = std::move(failure);
  inside_.clear();
  if (waiting_for_source_) {
    interrupted_ = true;
    source_->Interrupt();
  }
  changed_.notify_all();
}

bool Flights::Overdue() const {
  return !inside_.empty() && !releasing_ && Clock::now() - front_since_ >= step_timeout_;
}

void Flights::FailOverdue() {
  const double seconds = std::chrono::duration<double>(step_timeout_).count();
  Fail({DeviceFailure::Kind::kDeviceError, "",
        absl::StrCat("the PJRT plugin has not finished a step within ", seconds, " seconds")});
}

void Flights::WaitForPlugin(std::unique_lock<std::mutex>& lock) {
  if (inside_.empty()) return;
  if (inside_.front()->pending == 0 && !releasing_) return;
  changed_.wait_until(lock,
                      Clock::now() + std::max<Clock::duration>(front_since_ + step_timeout_ - Clock::now(),
                                                               std::chrono::milliseconds(1)));
  if (!failure_.has_value() && Overdue() && inside_.front()->pending > 0) FailOverdue();
}

std::optional<DeviceFailure> Flights::End() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (failure_.has_value() ? releasing_ : !inside_.empty()) {
    if (failure_.has_value()) {
      changed_.wait(lock);
    } else {
      WaitForPlugin(lock);
      Release(lock);
    }
  }
  return failure_;
}

void Flights::Reset() {
  std::lock_guard<std::mutex> lock(mutex_);
  failure_.reset();
}

void Flights::Watch() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    watch_.wait_for(lock, std::max<Clock::duration>(step_timeout_ / 4, std::chrono::milliseconds(1)));
    if (!failure_.has_value() && Overdue()) FailOverdue();
  }
}

void Flights::Stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  stopping_ = true;
  watch_.notify_all();
}

}  // namespace tfipu
