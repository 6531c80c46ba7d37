// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/device/queue_context.hpp>
#include <ublk/device/queue_worker.hpp>
#include <ublk/device/thread_set_handle.hpp>

#include <cstddef>
#include <mutex>
#include <optional>
#include <vector>

namespace ublk::inline v0 {

/// A part of a device, used by one thread of a set.
template <class Kernel>
struct set_chair {
    std::optional<queue_post<Kernel>> post;
    seated taken;
    std::optional<int> ended;  ///< with that code
    bool refused = false;      ///< by the driver: waits for the end of the start
};

/// How a crew serves on the threads of a set, which must not wait for anything of one device.
template <class Crew>
struct set_seats {
    /// Gives each part to a thread.
    static void join(Crew& crew) {
        const std::size_t count = crew.shifts_.size();
        crew.chairs_ = decltype(crew.chairs_){count};
        std::vector<set_member> members;
        for (std::size_t i = 0; i < count; ++i) {
            members.emplace_back(crew.shared_from_this(), i,
                                 [](void* me, std::size_t which, const void* bell) noexcept {
                                     return take_turn(*static_cast<Crew*>(me), which, bell);
                                 });
        }
        {
            const std::lock_guard lock{crew.mutex_};
            crew.at_work_ = count;
        }
        crew.set_.assign(crew.set_.set.get(), members.data(), count);
    }

private:
    static seat_state take_turn(Crew& crew, std::size_t index, const void* bell) noexcept {
        auto& mine = crew.chairs_[index];
        if (!mine.post && !sit_down(crew, index, bell)) {
            return seat_state::over;
        }
        if (mine.refused) {
            return give_up(crew, index);
        }
        if (!mine.ended) {
            const seat_state now = mine.taken.turn();
            if (now != seat_state::over) {
                return now;
            }
            mine.ended = mine.taken.end();
        }
        if (*mine.ended != 0 && !may_go(crew, *mine.ended)) {
            return seat_state::idle;
        }
        return leave(crew, index, *mine.ended);
    }

    static seat_state give_up(Crew& crew, std::size_t index) noexcept {
        return may_go(crew, 0) ? leave(crew, index, 0) : seat_state::idle;
    }

    static seat_state leave(Crew& crew, std::size_t index, int code) noexcept {
        crew.chairs_[index].taken = seated{};
        crew.leave(code);
        return seat_state::over;
    }

    [[nodiscard]] static bool sit_down(Crew& crew, std::size_t index, const void* bell) noexcept {
        auto& mine = crew.chairs_[index];
        try {
            if (*crew.set_.misplaced) {
                crew.fallbacks_.note(crew.plan_.affinity_refused());
            }
            mine.post.emplace(crew.post(index, bell));
            mine.taken = crew.duty_.sit(crew.duty_.backend.get(), *mine.post);
            mine.refused = !mine.taken.begin();
            return true;
        } catch (...) {
            crew.note_trouble();
            crew.leave(0);
            return false;
        }
    }

    /// As `wait_for_outcome` of the crew, without waiting.
    [[nodiscard]] static bool may_go(Crew& crew, int failed) noexcept {
        const std::lock_guard lock{crew.mutex_};
        crew.failure_ = crew.failure_ != 0 ? crew.failure_ : failed;
        crew.changed_.notify_all();
        return crew.decided_;
    }
};

}  // namespace ublk::inline v0
