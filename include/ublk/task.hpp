// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/coroutine/frame_memory.hpp>
#include <ublk/coroutine/task_owner.hpp>
#include <ublk/error.hpp>
#include <ublk/result.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace ublk::inline v0 {

class io;

namespace detail {

/// The frames of the io among a coroutine's parameters.
template <class Parameter>
void find_frames(Parameter& parameter, frame_memory*& found) noexcept {
    if constexpr (std::is_same_v<Parameter, io>) {
        found = &parameter.frames();
    }
}

/// Several tasks that one coroutine waits for.
struct task_group {
    std::size_t running = 0;
    std::coroutine_handle<> waiting;
};

}  // namespace detail

/// What an asynchronous backend function returns: a coroutine that ends with a `result`
/// (`co_return ublk::ok;`). It starts when it is awaited.
///
/// Such a function has a parameter `ublk::io&`, in whose tag's memory the frame lives
/// (`task_bytes` of the backend).
///
/// Errors: EIO where the frame does not fit, or an exception leaves the coroutine. Both are events.
/// Thread: the queue's.
class [[nodiscard]] task {
public:
    class promise_type;
    using handle = std::coroutine_handle<promise_type>;

    /// An answer at once, without a coroutine.
    constexpr task(result known) noexcept : known_{known} {}
    constexpr task(std::errc code) noexcept : known_{code} {}

    task(task&& other) noexcept
        : frame_{std::exchange(other.frame_, nullptr)}, known_{std::exchange(other.known_, lost)} {}
    task& operator=(task&& other) noexcept {
        task taken{std::move(other)};
        std::swap(frame_, taken.frame_);
        std::swap(known_, taken.known_);
        return *this;
    }
    ~task() {
        if (frame_) {
            frame_.destroy();
        }
    }

    /// Whether `answer` is known.
    [[nodiscard]] bool done() const noexcept { return !frame_ || frame_.done(); }

    /// EIO where the task has not ended, or was moved away.
    [[nodiscard]] result answer() const noexcept;

    /// For the library: runs it until it first waits. Its end notifies `owner`.
    void start(detail::task_owner& owner) noexcept;

    /// For `when_all`: the same as one of a group.
    void start(detail::task_group& group) noexcept;

    [[nodiscard]] auto operator co_await() && noexcept;

private:
    explicit task(handle frame) noexcept : frame_{frame}, known_{lost} {}

    static constexpr result lost{std::errc::io_error};

    handle frame_;
    result known_;
};

class task::promise_type {
public:
    template <class... Parameters>
    [[gnu::always_inline]] explicit promise_type(Parameters&... parameters) noexcept
        : home_{stack_among(parameters...)} {
        if (!in_place()) [[unlikely]] {
            home_.give_up_last();
        }
    }

    [[nodiscard]] task get_return_object() noexcept {
        return in_place() ? task{handle::from_promise(*this)} : task{lost};
    }
    /// Its frame does not fit.
    [[nodiscard]] static task get_return_object_on_allocation_failure() noexcept { return lost; }

    [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
    [[nodiscard]] auto final_suspend() const noexcept {
        struct end {
            [[nodiscard]] bool await_ready() const noexcept { return false; }
            [[nodiscard]] std::coroutine_handle<> await_suspend(handle ended) const noexcept {
                return ended.promise().next();
            }
            void await_resume() const noexcept {}
        };
        return end{};
    }
    void return_value(result value) noexcept { value_ = value; }
    void unhandled_exception() noexcept {
        value_ = std::errc::io_error;
        home_.note_exception();
    }

    // Inline, or g++ 12 takes the two for no pair (-Wmismatched-new-delete).
    template <class... Parameters>
    [[nodiscard, gnu::always_inline]] static void*
    operator new(std::size_t bytes, Parameters&... parameters) noexcept {
        return stack_among(parameters...).allocate(bytes);
    }
    static void operator delete(void* frame, std::size_t) noexcept {
        detail::frame_memory::release(frame);
    }

private:
    friend class task;

    template <class... Parameters>
    [[nodiscard]] static detail::frame_memory& stack_among(Parameters&... parameters) noexcept {
        static_assert((std::is_same_v<Parameters, io> || ...),
                      "ublk: a coroutine that returns ublk::task needs a parameter ublk::io&, in "
                      "whose memory its frame lives");
        detail::frame_memory* found = nullptr;
        (detail::find_frames(parameters, found), ...);
        return *found;
    }

    [[nodiscard]] bool in_place() noexcept {
        return home_.last_is(handle::from_promise(*this).address());
    }

    /// The coroutine that runs after this one.
    [[nodiscard]] std::coroutine_handle<> next() noexcept {
        if (waiting_) {
            return waiting_;
        }
        if (group_ != nullptr) {
            return --group_->running == 0 ? group_->waiting : std::noop_coroutine();
        }
        if (owner_ != nullptr) {
            owner_->notify();
        }
        return std::noop_coroutine();
    }

    std::coroutine_handle<> waiting_;
    detail::task_group* group_ = nullptr;
    detail::task_owner* owner_ = nullptr;
    result value_{std::errc::io_error};
    detail::frame_memory& home_;
};

inline result task::answer() const noexcept {
    return frame_ ? frame_.promise().value_ : known_;
}

inline void task::start(detail::task_owner& owner) noexcept {
    frame_.promise().owner_ = &owner;
    frame_.resume();
}

inline void task::start(detail::task_group& group) noexcept {
    frame_.promise().group_ = &group;
    frame_.resume();
}

inline auto task::operator co_await() && noexcept {
    struct until_ended {
        handle frame;
        result known;
        [[nodiscard]] bool await_ready() const noexcept { return !frame || frame.done(); }
        [[nodiscard]] std::coroutine_handle<>
        await_suspend(std::coroutine_handle<> awaiting) const noexcept {
            frame.promise().waiting_ = awaiting;
            return frame;
        }
        [[nodiscard]] result await_resume() const noexcept {
            return frame ? frame.promise().value_ : known;
        }
    };
    return until_ended{frame_, known_};
}

}  // namespace ublk::inline v0
