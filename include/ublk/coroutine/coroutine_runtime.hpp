// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/coroutine/tag_coroutine.hpp>
#include <ublk/detail/abandoned.hpp>
#include <ublk/io.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// How other threads make a queue thread look up from its queue.
struct rouser {
    void (*call)(const void*) noexcept = [](const void*) noexcept {};
    const void* who = nullptr;
};

/// The tasks of one queue thread: what they wait for goes to the port, and `Finish`, a function of
/// (tag_work&), hears of each that has ended.
template <class Port, class Finish>
class workshop {
public:
    workshop(Port& port, rouser rouse, Finish finish) noexcept
        : home_{rouse.call, rouse.who}, port_{port}, finish_{std::move(finish)} {}

    /// The tags of the thread's next queue. Allocates.
    void add_queue(unsigned tags, std::size_t bytes_each) {
        works_.emplace_back(home_, static_cast<std::uint16_t>(works_.size()), tags, bytes_each);
    }

    [[nodiscard]] tag_work& work(std::uint16_t place, tag which) noexcept {
        return works_[place][which];
    }

    /// Runs what was asked for until it waits or has ended.
    void begin(tag_work& work, task asked) noexcept {
        work.running = std::move(asked);
        if (work.running.done()) {
            finish_(work);
        } else {
            work.running.start(work);
        }
        settle();
    }

    /// The kernel has answered an operation.
    void go_on(operation& done, int answer) noexcept {
        if (home_.ended(done, answer)) [[likely]] {
            done.waiting.resume();
        }
        settle();
    }

    /// Goes on with what came back from threads of the user's.
    [[gnu::cold, gnu::noinline]] void resume_returned() noexcept {
        detail::errand* back = home_.take_back();
        while (back != nullptr) {
            std::exchange(back, back->next)->waiting.resume();
            settle();
        }
    }

    /// From now on operations end with -ECANCELED.
    [[gnu::cold, gnu::noinline]] void cancel() noexcept {
        if (!home_.cancelling()) {
            home_.cancel();
            port_.cancel_operations();
        }
    }

    /// Whether the kernel may still write into memory of a task's, or a thread of the user's has
    /// not come back: then nothing may be torn down.
    [[nodiscard]] bool busy() const noexcept { return home_.in_flight() != 0; }

    /// Ends the tasks that wait for something that never comes.
    [[gnu::cold, gnu::noinline]] void abandon() noexcept {
        for (tag_works& each : works_) {
            for (tag_work& work : each) {
                if (!work.running.done()) {
                    finish_(work);
                }
            }
        }
    }

    /// The ring tells nothing any more of what is in flight: the memory of the tasks is given up on
    /// rather than given back. Users' threads that have their work may come back to this for ever.
    [[gnu::cold, gnu::noinline]] void leave_behind() {
        left_behind_ = true;
        home_.close();
        detail::abandon(new remains{{}, std::exchange(works_, {})});
    }

    [[nodiscard]] bool left_behind() const noexcept { return left_behind_; }

private:
    struct remains : detail::abandoned {
        std::vector<tag_works> works;
    };

    /// Hands over what tasks have asked for, and the answers of those that have ended.
    void settle() noexcept {
        while (const operation* const next = home_.next_submission()) {
            port_.start(*next);
        }
        while (detail::task_owner* const ended = home_.next_ended()) {
            finish_(static_cast<tag_work&>(*ended));
        }
    }

    io_thread home_;
    Port& port_;
    [[no_unique_address]] Finish finish_;
    std::vector<tag_works> works_;
    bool left_behind_ = false;
};

/// Of a backend that answers at once.
struct no_workshop {
    template <class... Ignored>
    explicit constexpr no_workshop(Ignored&&...) noexcept {}
    static constexpr void add_queue(unsigned, std::size_t) noexcept {}
    static constexpr void cancel() noexcept {}
    static constexpr void resume_returned() noexcept {}
    [[nodiscard]] static constexpr bool busy() noexcept { return false; }
    [[nodiscard]] static constexpr bool left_behind() noexcept { return false; }
};

}  // namespace ublk::inline v0
