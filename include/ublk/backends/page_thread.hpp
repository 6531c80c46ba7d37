// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/completion_handle.hpp>
#include <ublk/error.hpp>
#include <ublk/page_ring.hpp>
#include <ublk/payload.hpp>
#include <ublk/result.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>

namespace ublk::inline v0::detail {

/// A thread that moves bytes between a file and clients' pages, one request after the other. It
/// starts with the first of them.
class page_thread {
public:
    /// A read or write, in the frame of the coroutine that waits for it.
    struct job {
        int file;
        int zero_file;  ///< whose bytes are those beyond the end of `file`
        client_pages pages;
        std::uint64_t offset;
        int flags;
        bool writes;
        std::optional<completion_handle> done{};
        job* next = nullptr;
    };

    page_thread() : state_{std::make_unique<state>()} {}

    /// Answers `each.done` when it is over. Throws where there is no thread to be had.
    void give(job& each, completion_handle done) {
        const std::lock_guard lock{state_->mutex};
        if (!state_->thread.joinable()) {
            state_->thread =
                std::jthread{[&mine = *state_](const std::stop_token& stop) { mine.work(stop); }};
        }
        each.done.emplace(std::move(done));
        *state_->last = &each;
        state_->last = &each.next;
        state_->changed.notify_one();
    }

private:
    struct state {
        void work(const std::stop_token& stop) {
            std::unique_lock lock{mutex};
            while (changed.wait(lock, stop, [this] { return first != nullptr; })) {
                job& each = *first;
                first = each.next;
                last = first == nullptr ? &first : last;
                lock.unlock();
                const result answer = carry_out(each);
                completion_handle done = std::move(*each.done);
                std::move(done).answer(answer);  // `each` may be gone then
                lock.lock();
            }
        }

        [[nodiscard]] result carry_out(const job& each) {
            if (!ring) {
                try {
                    ring.emplace();
                } catch (const error& refused) {
                    return result::failure(refused.errno_value());
                }
            }
            if (each.writes) {
                return ring->write(each.file, each.pages, each.offset, each.flags);
            }
            const result answer = ring->read(each.file, each.pages, each.offset);
            return answer == result{std::errc::no_message_available} ? fill_end(each) : answer;
        }

        /// All bytes up to the end of the file are there.
        [[nodiscard]] result fill_end(const job& each) noexcept {
            struct stat is {};
            if (::fstat(each.file, &is) != 0) {
                return result::from_errno();
            }
            const auto end = static_cast<std::uint64_t>(is.st_size);
            const std::size_t size = each.pages.size();
            const auto there = static_cast<std::size_t>(
                std::min<std::uint64_t>(end - std::min(end, each.offset), size));
            return ring->read(each.zero_file, each.pages.subspan(there, size - there), 0);
        }

        std::mutex mutex;
        std::condition_variable_any changed;
        job* first = nullptr;
        job** last = &first;
        std::optional<page_ring> ring;  ///< the thread's
        std::jthread thread;            ///< ends before the rest
    };

    std::unique_ptr<state> state_;
};

}  // namespace ublk::inline v0::detail
