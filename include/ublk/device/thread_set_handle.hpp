// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace ublk::inline v0 {

namespace detail {
class process_owner;
}

/// How a thread that serves many devices stands with one of them.
enum class seat_state : std::uint8_t {
    idle,  ///< nothing to do
    busy,  ///< there may be more
    over   ///< all is done, or serving failed
};

/// What one thread of a set is to serve: a part of one device.
class set_member {
public:
    /// `how` gets `whom`, `which` and the thread's bell, and tells how it stands; once it is
    /// over, never again.
    set_member(std::shared_ptr<void> whom, std::size_t which,
               seat_state (*how)(void* whom, std::size_t which, const void* bell) noexcept)
        : whom_{std::move(whom)}, which_{which}, how_{how} {}

    [[nodiscard]] seat_state serve(const void* bell) const noexcept {
        return how_(whom_.get(), which_, bell);
    }

private:
    std::shared_ptr<void> whom_;
    std::size_t which_;
    seat_state (*how_)(void*, std::size_t, const void*) noexcept;
};

/// A set of threads as a device sees it; empty for a device with threads of its own. It keeps the
/// threads.
struct set_handle {
    std::shared_ptr<void> set{};
    std::size_t threads = 0;
    const detail::process_owner* owner = nullptr;  ///< of these threads
    const void* mark = nullptr;                    ///< `this_thread_mark` on these threads
    /// Whether one of those that have begun to serve may not run where it should.
    const std::atomic<bool>* misplaced = nullptr;

    /// Gives `count` members to threads that follow each other, of each device to other ones.
    void (*assign)(void* set, set_member* members, std::size_t count) = nullptr;
    /// Makes all threads look at what they have.
    void (*ring)(void* set) noexcept = nullptr;

    [[nodiscard]] explicit operator bool() const noexcept { return set != nullptr; }
};

/// Whether the calling thread is one of those that serve `backend`, or of that set: its call of
/// stop() would wait for itself.
template <class Kernel>
[[nodiscard]] bool serves_here(const void* backend, const set_handle& set) noexcept {
    const void* const mark = Kernel::this_thread_mark();
    return mark == backend || (mark != nullptr && mark == set.mark);
}

}  // namespace ublk::inline v0
