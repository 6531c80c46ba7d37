// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/coroutine/frame_memory.hpp>
#include <ublk/coroutine/runtime_queue.hpp>
#include <ublk/detail/abandoned.hpp>
#include <ublk/io.hpp>
#include <ublk/request.hpp>
#include <ublk/task.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace ublk::inline v0::detail {

/// What an asynchronous backend is doing for one tag.
struct tag_coroutine : io {
    tag_coroutine(runtime_queue& home, std::span<std::byte> memory,
                  std::uint16_t queue_place) noexcept
        : io{home, memory}, queue_index{queue_place} {}

    request current{uapi::io_desc{}, queue_id{}, tag{}};
    task running{ok};
    std::uint16_t queue_index;  ///< of the queue among those of its thread
    bool registered = false;    ///< the client's pages were registered by us
};

/// The works of one queue's tags and the memory of their frames, taken once.
class queue_coroutines {
public:
    queue_coroutines() noexcept = default;
    queue_coroutines(runtime_queue& home, std::uint16_t queue_index, unsigned tags,
                     std::size_t bytes_each)
        : memory_{new (std::align_val_t{line}) std::byte[tags * stride(bytes_each)]} {
        tags_.reserve(tags);
        for (std::size_t i = 0; i < tags; ++i) {
            tags_.emplace_back(home, std::span{memory_.get() + i * stride(bytes_each), bytes_each},
                               queue_index);
        }
    }

    [[nodiscard]] tag_coroutine& operator[](tag t) noexcept { return tags_[t.value()]; }
    [[nodiscard]] auto begin() noexcept { return tags_.begin(); }
    [[nodiscard]] auto end() noexcept { return tags_.end(); }

private:
    static constexpr std::size_t line = 64;

    // An odd number of cache lines: with a power of two all tags' frames would compete for a few
    // sets of the cache.
    [[nodiscard]] static constexpr std::size_t stride(std::size_t bytes) noexcept {
        return ((bytes + line - 1) / line | 1) * line;
    }

    struct release {
        void operator()(std::byte* memory) const noexcept {
            ::operator delete[](memory, std::align_val_t{line});
        }
    };

    std::unique_ptr<std::byte[], release> memory_;
    std::vector<tag_coroutine> tags_;
};

/// How other threads make a queue thread look up from its queue.
struct wakeup_call {
    void (*call)(const void*) noexcept = [](const void*) noexcept {};
    const void* target = nullptr;
};

/// The tasks of one queue thread: what they wait for goes to the port, and `Finish`, a function of
/// (tag_coroutine&), hears of each that has ended.
template <class Port, class Finish>
class coroutine_runtime {
public:
    coroutine_runtime(Port& port, wakeup_call wakeup, Finish finish) noexcept
        : home_{wakeup.call, wakeup.target}, port_{port}, finish_{std::move(finish)} {
        if constexpr (requires { port.now(); }) {
            home_.use_clock(
                [](const void* clock) noexcept { return static_cast<const Port*>(clock)->now(); },
                &port);
        }
    }

    /// The tags of the thread's next queue. Allocates.
    void add_queue(unsigned tags, std::size_t bytes_each) {
        queues_.emplace_back(home_, static_cast<std::uint16_t>(queues_.size()), tags, bytes_each);
    }

    [[nodiscard]] tag_coroutine& work(std::uint16_t queue_index, tag t) noexcept {
        return queues_[queue_index][t];
    }

    /// Runs what was asked for until it waits or has ended.
    void begin(tag_coroutine& work, task requested) noexcept {
        work.running = std::move(requested);
        if (work.running.done()) {
            finish_(work);
        } else {
            work.running.start(work);
        }
        settle();
    }

    /// The kernel has answered an operation.
    void resume(operation& done, int answer) noexcept {
        if (home_.ended(done, answer)) [[likely]] {
            done.waiting.resume();
        }
        settle();
    }

    /// Goes on with what came back from threads of the user's.
    [[gnu::cold, gnu::noinline]] void resume_completed() noexcept {
        offloaded* back = home_.take_completed();
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
        for (queue_coroutines& each : queues_) {
            for (tag_coroutine& work : each) {
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
        detail::abandon(new remains{{}, std::exchange(queues_, {})});
    }

    [[nodiscard]] bool left_behind() const noexcept { return left_behind_; }

private:
    struct remains : abandoned {
        std::vector<queue_coroutines> works;
    };

    /// Hands over what tasks have asked for, and the answers of those that have ended.
    void settle() noexcept {
        while (const operation* const next = home_.next_submission()) {
            port_.start(*next);
        }
        while (task_owner* const ended = home_.next_ended()) {
            finish_(static_cast<tag_coroutine&>(*ended));
        }
    }

    runtime_queue home_;
    Port& port_;
    [[no_unique_address]] Finish finish_;
    std::vector<queue_coroutines> queues_;
    bool left_behind_ = false;
};

/// Of a backend that answers at once.
struct no_coroutine_runtime {
    template <class... Ignored>
    explicit constexpr no_coroutine_runtime(Ignored&&...) noexcept {}
    static constexpr void add_queue(unsigned, std::size_t) noexcept {}
    static constexpr void cancel() noexcept {}
    static constexpr void resume_completed() noexcept {}
    [[nodiscard]] static constexpr bool busy() noexcept { return false; }
    [[nodiscard]] static constexpr bool left_behind() noexcept { return false; }
};

}  // namespace ublk::inline v0::detail
