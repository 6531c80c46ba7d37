// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace ublk::inline v0 {

/// Something that a device tells without being asked.
struct event {
    enum class kind : std::uint8_t {
        setup,        ///< what was chosen at start, and why
        fallback,     ///< something asked for is refused; the next best serves
        exception,    ///< a request failed with EIO, since the backend threw
        task_memory,  ///< one did, since the frames of its coroutines do not fit into task_bytes
        never_ran,    ///< one did, since the compiler made nothing of a coroutine
        suppressed,   ///< more requests failed in the same way than are told one by one
        thread_lost,  ///< a queue thread failed: the device serves nothing more
        recovered     ///< after that: the disk is served anew, in this process
    };

    kind type = kind::setup;
    std::uint32_t device = 0;  ///< N of /dev/ublkbN
    std::string message{};     ///< one sentence, without a full stop
};

/// "ublk: device 0: data path copy": a line to print.
[[nodiscard]] inline std::string to_string(const event& e) {
    return "ublk: device " + std::to_string(e.device) + ": " + e.message;
}

/// A callable of (const event&), with its state, that is called with each event. Copies share it.
///
/// Failed requests: eight at once, then one a second are told.
///
/// Thread: for `setup` and `fallback` the one that calls start or recover, for `recovered` the one
/// that calls wait. There it must not call start, stop or wait of that device; what it throws
/// leaves them. For all others a thread of the device's
/// own, which starts with the first of them. There it may block, what it throws is dropped, and the
/// end of the device waits 1 s at most for it.
class event_hook {
public:
    event_hook() noexcept = default;
    template <class F>
        requires(!std::same_as<std::remove_cvref_t<F>, event_hook> &&
                 std::invocable<std::decay_t<F>&, const event&>)
    event_hook(F&& function)
        : state_{std::make_shared<std::decay_t<F>>(std::forward<F>(function))},
          call_{[](void* state, const event& e) {
              (void)(*static_cast<std::decay_t<F>*>(state))(e);
          }} {
        if constexpr (requires(const std::decay_t<F>& f) { static_cast<bool>(f == nullptr); }) {
            if (*static_cast<const std::decay_t<F>*>(state_.get()) == nullptr) {
                call_ = nullptr;  // a null pointer or an empty std::function is no hook
            }
        }
    }

    [[nodiscard]] explicit operator bool() const noexcept { return call_ != nullptr; }
    void operator()(const event& e) const { call_(state_.get(), e); }

private:
    std::shared_ptr<void> state_;
    void (*call_)(void*, const event&) = nullptr;
};

}  // namespace ublk::inline v0
