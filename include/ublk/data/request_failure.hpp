// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/event.hpp>
#include <ublk/request.hpp>
#include <ublk/uapi.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace ublk::inline v0::detail {

/// Why a request failed with EIO that is not for its client to know, but for whoever wrote the
/// backend. A value that takes no memory.
struct request_failure {
    event::kind why = event::kind::exception;  ///< or task_memory, never_ran
    uapi::op op = uapi::op::read;
    std::uint16_t queue = 0;
    std::uint16_t tag = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::size_t bytes = 0;          ///< that the frames would take
    std::array<char, 160> words{};  ///< what(), cut off where it is longer

    request_failure() noexcept = default;
    request_failure(event::kind reason, const request& r) noexcept
        : why{reason}, op{r.op()}, queue{r.queue().value()}, tag{r.tag().value()},
          offset{r.offset()}, length{r.length()} {}

    void say(std::string_view text) noexcept {
        const std::size_t some = std::min(text.size(), words.size() - 1);
        std::memcpy(words.data(), text.data(), some);
        words[some] = '\0';
    }

    /// What that exception says of itself.
    void say(const std::exception_ptr& thrown) noexcept {
        try {
            std::rethrow_exception(thrown);
        } catch (const std::exception& known) {
            say(known.what());
        } catch (...) {
            say("an exception that is no std::exception");
        }
    }
};

/// In words, for people.
[[nodiscard]] inline std::string sentence(const request_failure& of) {
    constexpr std::array names{
        std::pair{uapi::op::read, "READ"}, std::pair{uapi::op::write, "WRITE"},
        std::pair{uapi::op::flush, "FLUSH"}, std::pair{uapi::op::discard, "DISCARD"},
        std::pair{uapi::op::write_zeroes, "WRITE_ZEROES"}};
    std::string text = "operation " + std::to_string(static_cast<unsigned>(of.op));
    for (const auto& [op, name] : names) {
        text = op == of.op ? std::string{name} : text;
    }
    text += " of " + std::to_string(of.length) + " bytes at " + std::to_string(of.offset) +
            " (queue " + std::to_string(of.queue) + ", tag " + std::to_string(of.tag) +
            ") failed with EIO: ";
    constexpr std::size_t unit = 256;
    const std::string rounded = std::to_string((of.bytes + unit - 1) / unit * unit);
    switch (of.why) {
    case event::kind::exception:
        return text + "the backend threw: " + of.words.data();
    case event::kind::task_memory:
        return text + "the frames of the backend's coroutines take " + std::to_string(of.bytes) +
               " bytes or more, and have less; write in the backend: static constexpr std::size_t "
               "task_bytes = " +
               rounded + ";";
    default:
        break;
    }
    return text + "a coroutine of the backend never ran, which g++ 12 makes of one that declares "
                  "no variable and has a co_await in the condition of an if, while or switch; "
                  "write const auto answer = co_await ...; before it, or take a newer compiler";
}

}  // namespace ublk::inline v0::detail
