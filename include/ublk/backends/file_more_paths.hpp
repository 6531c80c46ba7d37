// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/copy_buffers.hpp>
#include <ublk/backends/file.hpp>
#include <ublk/backends/page_thread.hpp>
#include <ublk/io.hpp>
#include <ublk/payload.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/task.hpp>

#include <sys/uio.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>

namespace ublk::inline v0::backends {

/// `file` on two more data paths, for kernels and users that have no others: `user_copy` and
/// `pages`, which options::path asks for. By `user_copy` up to 64 requests at a time go through
/// memory of 64 KiB each. By `pages` one thread carries out all reads and writes, one after the
/// other.
class file_more_paths : public file {
public:
    using file::file;
    using file::read;
    using file::write;

    static constexpr std::size_t task_bytes = file::task_bytes + 1024;

    [[nodiscard]] task read(io& with, const request& r, user_copy out) {
        return through_buffer<false>(with, r, out);
    }
    [[nodiscard]] task write(io& with, const request& r, user_copy in) {
        return through_buffer<true>(with, r, in);
    }
    [[nodiscard]] task read(io& with, const request& r, client_pages out) {
        return by_thread(with, r, out, false);
    }
    [[nodiscard]] task write(io& with, const request& r, client_pages in) {
        return by_thread(with, r, in, true);
    }

    /// Not one of the two.
    [[nodiscard]] std::optional<data_path> preferred_path() const noexcept {
        return file::preferred_path().value_or(data_path::fixed_copy);
    }

private:
    template <bool Writes>
    task through_buffer(io& with, const request& r, user_copy payload) {
        detail::copy_buffers::buffer buffer = buffers_.take();
        while (!buffer) {  // whoever has it may be on another thread, which cannot resume this
            const int slept = co_await with.sleep(std::chrono::microseconds{50});
            if (slept < 0) {
                co_return result::failure(slept);
            }
            buffer = buffers_.take();
        }
        for (std::size_t done = 0; done < payload.size();) {
            const std::span<std::byte> bytes = buffer.bytes().first(
                std::min(payload.size() - done, detail::copy_buffers::bytes_each));
            const request piece = r.part(r.offset() + done, bytes.size());
            if constexpr (Writes) {
                const result copied = payload.get(done, bytes);
                if (!copied.ok()) {
                    co_return copied;
                }
                task all = file::write(with, piece, std::span<const std::byte>{bytes});
                const result answer = co_await std::move(all);
                if (!answer.ok()) {
                    co_return answer;
                }
            } else {
                task all = file::read(with, piece, bytes);
                const result answer = co_await std::move(all);
                const result copied = answer.ok() ? payload.put(done, bytes) : answer;
                if (!copied.ok()) {
                    co_return copied;
                }
            }
            done += bytes.size();
        }
        co_return ok;
    }

    task by_thread(io& with, const request& r, client_pages pages, bool writes) {
        const bool lasting = writes && r.fua();
        detail::page_thread::job job{.file = descriptor(),
                                     .zero_file = zero_descriptor(),
                                     .pages = pages,
                                     .offset = r.offset(),
                                     .flags = lasting ? RWF_DSYNC : 0,
                                     .writes = writes};
        const auto give = [&](completion_handle done) { thread_.give(job, std::move(done)); };
        const result answer = co_await with.offload(give);
        if (lasting) {
            co_return durable(-answer.error());
        }
        co_return answer;
    }

    detail::copy_buffers buffers_;
    detail::page_thread thread_;
};

}  // namespace ublk::inline v0::backends
