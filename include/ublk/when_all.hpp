// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/task.hpp>

#include <array>
#include <coroutine>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

namespace ublk::inline v0 {

/// Runs tasks at the same time and waits for all of them, also after one has failed. The tasks
/// outlive the wait.
///
/// Returns: ok, or the first failure in the order of `tasks`.
[[nodiscard]] inline auto when_all(std::span<task> tasks) noexcept {
    struct all {
        std::span<task> tasks;
        detail::task_group group{};

        [[nodiscard]] bool await_ready() const noexcept { return tasks.empty(); }
        // One more than there are, so that those that end at once do not resume the caller.
        [[nodiscard]] bool await_suspend(std::coroutine_handle<> awaiting) noexcept {
            group.waiting = awaiting;
            group.running = 1;
            for (task& each : tasks) {
                if (!each.done()) {
                    ++group.running;
                    each.start(group);
                }
            }
            return --group.running != 0;
        }
        [[nodiscard]] result await_resume() const noexcept {
            for (const task& each : tasks) {
                if (!each.answer().ok()) {
                    return each.answer();
                }
            }
            return ok;
        }
    };
    return all{tasks};
}

/// The same for tasks named one by one.
template <class... Tasks>
    requires(sizeof...(Tasks) > 0 && (std::is_same_v<Tasks, task> && ...))
[[nodiscard]] auto when_all(Tasks... tasks) noexcept {
    struct all {
        std::array<task, sizeof...(Tasks)> tasks;
        decltype(when_all(std::span<task>{})) wait{{}};

        [[nodiscard]] bool await_ready() const noexcept { return false; }
        [[nodiscard]] bool await_suspend(std::coroutine_handle<> awaiting) noexcept {
            wait.tasks = tasks;
            return wait.await_suspend(awaiting);
        }
        [[nodiscard]] result await_resume() const noexcept { return wait.await_resume(); }
    };
    return all{{std::move(tasks)...}};
}

}  // namespace ublk::inline v0
