// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace ublk::inline v0::detail {

/// What a thread that serves many devices knows of its part of one, after a turn.
enum class worker_state : std::uint8_t {
    idle,  ///< nothing to do
    busy,  ///< there may be more
    over   ///< all is done, or serving failed
};

/// A `queue_worker` whatever its type, by a table of its functions. Made, used and destroyed by one
/// thread.
class any_queue_worker {
public:
    any_queue_worker() noexcept = default;
    template <class Worker>
    explicit any_queue_worker(std::unique_ptr<Worker> worker) noexcept
        : self_{worker.release(), table<Worker>.destroy}, ops_{&table<Worker>} {}

    /// Offers all tags to the driver. 0, or the errno (negative) of a refusal: other tags may be
    /// with the driver then, so the ring must stay until the device is stopped.
    [[nodiscard]] int fetch_all() noexcept { return ops_->fetch_all(self_.get()); }

    /// IORING_SETUP_* of the ring.
    [[nodiscard]] unsigned ring_flags() const noexcept { return ops_->ring_flags(self_.get()); }

    /// Serves until the end. 0, or the errno (negative) with which it failed.
    [[nodiscard]] int run() noexcept { return ops_->run(self_.get()); }

    /// In place of `run`: serves what there is, without waiting.
    [[nodiscard]] worker_state turn() noexcept { return ops_->turn(self_.get()); }
    /// Once, after a turn that was the last: returns as `run`.
    [[nodiscard]] int end() noexcept { return ops_->end(self_.get()); }

    /// After the end: a thread of the user's may still come back to it.
    [[nodiscard]] bool left_behind() const noexcept {
        return self_ != nullptr && ops_->left_behind(self_.get());
    }

private:
    struct operations {
        void (*destroy)(void*) noexcept;
        int (*fetch_all)(void*) noexcept;
        unsigned (*ring_flags)(const void*) noexcept;
        int (*run)(void*) noexcept;
        worker_state (*turn)(void*) noexcept;
        int (*end)(void*) noexcept;
        bool (*left_behind)(const void*) noexcept;
    };

    template <class Worker>
    static constexpr operations table{
        .destroy = [](void* w) noexcept { delete static_cast<Worker*>(w); },
        .fetch_all = [](void* w) noexcept { return static_cast<Worker*>(w)->fetch_all(); },
        .ring_flags =
            [](const void* w) noexcept { return static_cast<const Worker*>(w)->ring_flags(); },
        .run = [](void* w) noexcept { return static_cast<Worker*>(w)->run(); },
        .turn = [](void* w) noexcept { return static_cast<Worker*>(w)->turn(); },
        .end = [](void* w) noexcept { return static_cast<Worker*>(w)->end(); },
        .left_behind =
            [](const void* w) noexcept { return static_cast<const Worker*>(w)->left_behind(); }};

    std::unique_ptr<void, void (*)(void*) noexcept> self_{nullptr, [](void*) noexcept {}};
    const operations* ops_ = nullptr;
};

}  // namespace ublk::inline v0::detail
