// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/device/any_queue_worker.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace ublk::inline v0::detail {

class process_owner;

/// What one thread of a set is to serve: a part of one device.
class set_member {
public:
    /// `take_turn` gets `device`, `index` and the thread's wakeup event, and tells how it stands;
    /// once it is over, it is not called again.
    set_member(std::shared_ptr<void> device, std::size_t index,
               worker_state (*take_turn)(void* device, std::size_t index,
                                         const void* wakeup_event) noexcept)
        : device_{std::move(device)}, index_{index}, take_turn_{take_turn} {}

    [[nodiscard]] worker_state serve(const void* wakeup_event) const noexcept {
        return take_turn_(device_.get(), index_, wakeup_event);
    }

private:
    std::shared_ptr<void> device_;
    std::size_t index_;
    worker_state (*take_turn_)(void*, std::size_t, const void*) noexcept;
};

/// A set of threads as a device sees it; empty for a device with threads of its own. It keeps the
/// threads.
struct thread_set_handle {
    std::shared_ptr<void> set{};
    std::size_t threads = 0;
    const process_owner* owner = nullptr;  ///< of these threads
    const void* mark = nullptr;            ///< `this_thread_mark` on these threads
    /// Whether one of those that have begun to serve may not run where it should.
    const std::atomic<bool>* misplaced = nullptr;

    /// Gives `count` members to threads that follow each other, of each device to other ones.
    void (*assign)(void* set, set_member* members, std::size_t count) = nullptr;
    /// Makes all threads look at what they have.
    void (*wake)(void* set) noexcept = nullptr;

    [[nodiscard]] explicit operator bool() const noexcept { return set != nullptr; }
};

/// Whether the calling thread is one of those that serve `backend`, or of that set: its call of
/// stop() would wait for itself.
template <class Kernel>
[[nodiscard]] bool serves_here(const void* backend, const thread_set_handle& set) noexcept {
    const void* const mark = Kernel::this_thread_mark();
    return mark == backend || (mark != nullptr && mark == set.mark);
}

}  // namespace ublk::inline v0::detail
