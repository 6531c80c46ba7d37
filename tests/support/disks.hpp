// SPDX-License-Identifier: MIT
#pragma once

// Small disks to build others from, and a ring that completes in any order.

#include <ublk/data/dispatch.hpp>
#include <ublk/sim/perform.hpp>
#include <ublk/sim/random.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace ublk::test {

/// A file of memory.
class memory_file {
public:
    explicit memory_file(std::uint64_t bytes) : file_{::memfd_create("disk", MFD_CLOEXEC)} {
        UBLK_ASSERT(file_ >= 0 && ::ftruncate(file_, static_cast<off_t>(bytes)) == 0, "a memfd");
    }
    memory_file(memory_file&& other) noexcept : file_{std::exchange(other.file_, -1)} {}
    memory_file& operator=(memory_file&&) = delete;
    ~memory_file() {
        if (file_ >= 0) {
            ::close(file_);
        }
    }

    [[nodiscard]] int get() const noexcept { return file_; }

private:
    int file_;
};

/// Answers at once; takes spans and user copies.
struct disk_now {
    explicit disk_now(std::uint64_t bytes) : content(bytes) {}

    std::vector<std::byte> content;
    std::vector<request> requested{};  ///< all requests, while `logs`
    bool logs = false;
    int error = 0;  ///< that everything fails with

    std::uint64_t size() const noexcept { return content.size(); }

    result read(const request& r, std::span<std::byte> out) {
        std::copy_n(at(r), out.size(), out.begin());
        return done(r);
    }
    result write(const request& r, std::span<const std::byte> in) {
        std::copy(in.begin(), in.end(), at(r));
        return done(r);
    }
    result read(const request& r, user_copy out) {
        return out.put(0, {at(r), out.size()}).ok() ? done(r) : result{std::errc::bad_address};
    }
    result write(const request& r, user_copy in) {
        return in.get(0, {at(r), in.size()}).ok() ? done(r) : result{std::errc::bad_address};
    }
    result discard(const request& r) { return write_zeroes(r); }
    result write_zeroes(const request& r) {
        std::fill_n(at(r), r.length(), std::byte{});
        return done(r);
    }

private:
    std::byte* at(const request& r) noexcept { return content.data() + r.offset(); }
    result done(const request& r) {
        if (logs) {
            requested.push_back(r);
        }
        return error == 0 ? ok : result::failure(error);
    }
};

/// Works on a file by the queue's own ring; takes all payloads. Each function looks at its request
/// again after it has waited.
struct disk_later {
    explicit disk_later(std::uint64_t size_) : file{size_}, bytes{size_} {}

    static constexpr unsigned operations_in_flight = 1;
    static constexpr bool fua = true;

    memory_file file;
    std::uint64_t bytes;
    bool spoilt = false;  ///< a request did not outlive the wait

    std::uint64_t size() const noexcept { return bytes; }

    task read(io& with, const request& r, std::span<std::byte> out) {
        const request before = r;
        co_return end(r, before, co_await with.read(file.get(), out, r.offset()), out.size());
    }
    task read(io& with, const request& r, registered_buffer out) {
        const request before = r;
        co_return end(r, before, co_await with.read(file.get(), out, r.offset()), out.size());
    }
    task write(io& with, const request& r, std::span<const std::byte> in) {
        const request before = r;
        co_return end(r, before, co_await with.write(file.get(), in, r.offset()), in.size());
    }
    task write(io& with, const request& r, registered_buffer in) {
        const request before = r;
        co_return end(r, before, co_await with.write(file.get(), in, r.offset()), in.size());
    }
    result read(const request& r, user_copy out) {
        std::array<std::byte, 1u << 16> bounce;
        const auto got = ::pread(file.get(), bounce.data(), out.size(), place(r));
        return got < 0 ? result::from_errno() : out.put(0, std::span{bounce}.first(out.size()));
    }
    result write(const request& r, user_copy in) {
        std::array<std::byte, 1u << 16> bounce;
        const result got = in.get(0, std::span{bounce}.first(in.size()));
        const auto put = ::pwrite(file.get(), bounce.data(), in.size(), place(r));
        return put < 0 ? result::from_errno() : got;
    }
    task flush(io& with, const request& r) {
        const request before = r;
        co_return end(r, before, co_await with.fdatasync(file.get()), 0);
    }
    task discard(io& with, const request& r) {
        const request before = r;
        constexpr int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        co_return end(r, before, co_await with.fallocate(file.get(), hole, r.offset(), r.length()),
                      0);
    }
    task write_zeroes(io& with, const request& r) { return discard(with, r); }

private:
    static off_t place(const request& r) noexcept { return static_cast<off_t>(r.offset()); }

    result end(const request& now, const request& before, int outcome, std::size_t wanted) {
        spoilt |= now.offset() != before.offset() || now.length() != before.length() ||
                  now.flags() != before.flags() || now.op() != before.op();
        if (outcome < 0) {
            return result::failure(outcome);
        }
        return static_cast<std::size_t>(outcome) == wanted ? ok : result{std::errc::io_error};
    }
};

/// Serves one request at a time, and completes its operations in random order: one, then whatever
/// that leads to is submitted. Takes no memory while it does.
class shuffled_ring {
public:
    shuffled_ring(std::uint64_t seed, std::size_t task_bytes)
        : draw_{seed},
          memory_(task_bytes / sizeof(std::max_align_t)), with_{home_, std::as_writable_bytes(
                                                                           std::span{memory_})} {}

    /// What answers; by default the kernel.
    std::function<int(const detail::submission&)> kernel{};

    std::size_t most_in_flight = 0;
    std::size_t most_frames = 0;  ///< bytes
    std::size_t operations = 0;

    template <class B, class P>
    [[nodiscard]] result serve(B& backend, const request& requested, P payload) {
        task running = dispatch(backend, with_, requested, payload);
        if (!running.done()) {
            running.start(with_);
            while (turn()) {
            }
        }
        UBLK_ASSERT(running.done(), "a task ends when all its operations have");
        return running.answer();
    }

    /// The same with a registered buffer of these bytes.
    template <class B>
    [[nodiscard]] result serve_registered(B& backend, const request& requested,
                                          std::span<std::byte> bytes) {
        registered_ = bytes;
        return serve(backend, requested, registered_buffer{3, base, bytes.size()});
    }

    [[nodiscard]] io& with() noexcept { return with_; }
    [[nodiscard]] std::size_t frames() noexcept { return with_.frames().used(); }

private:
    static constexpr std::uint64_t base = 0x10000;

    bool turn() {
        while (detail::operation* const next = home_.next_submission()) {
            in_flight_.at(count_++) = next;
        }
        most_in_flight = std::max(most_in_flight, count_);
        most_frames = std::max(most_frames, frames());
        if (count_ == 0) {
            return false;
        }
        detail::operation* const one =
            std::exchange(in_flight_.at(draw_.below(count_)), in_flight_.at(count_ - 1));
        --count_;
        ++operations;
        if (home_.ended(*one, answer(one->submitted))) {
            one->waiting.resume();
        }
        return true;
    }

    int answer(detail::submission requested) {
        if (requested.code == detail::opcode::read_fixed ||
            requested.code == detail::opcode::write_fixed) {
            UBLK_ASSERT(requested.buffer == 3 && requested.address >= base &&
                            requested.address - base + requested.length <= registered_.size(),
                        "it stays in its buffer");
            requested.address =
                reinterpret_cast<std::uintptr_t>(registered_.data()) + (requested.address - base);
        }
        if (kernel) {
            return kernel(requested);
        }
        return requested.code == detail::opcode::timeout ? -ETIME : sim::perform(requested);
    }

    sim::random draw_;
    detail::runtime_queue home_{[](const void*) noexcept {}, nullptr};
    std::vector<std::max_align_t> memory_;
    std::array<detail::operation*, 256> in_flight_{};
    std::size_t count_ = 0;
    std::span<std::byte> registered_;
    io with_;
};

}  // namespace ublk::test
