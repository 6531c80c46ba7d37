// SPDX-License-Identifier: MIT
#pragma once

// Small disks that answer later, for simulated servers.

#include <ublk/backends/memory.hpp>
#include <ublk/detail/fd.hpp>
#include <ublk/error.hpp>
#include <ublk/io.hpp>
#include <ublk/payload.hpp>
#include <ublk/request.hpp>
#include <ublk/sim/page_ring.hpp>
#include <ublk/sim/users_thread.hpp>
#include <ublk/task.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

/// A sparse file in memory, which outlives its servers.
class bare_file {
public:
    explicit bare_file(std::uint64_t bytes)
        : bytes_{bytes}, file_{std::make_shared<ublk::fd>(
                             ::memfd_create("ublk-sim-disk", MFD_CLOEXEC))} {
        if (!*file_ || ::ftruncate(file_->get(), static_cast<off_t>(bytes)) != 0) {
            ublk::fail(errno, "making a file", std::nullopt);
        }
    }
    [[nodiscard]] int get() const noexcept { return file_->get(); }
    [[nodiscard]] std::uint64_t size() const noexcept { return bytes_; }

private:
    std::uint64_t bytes_;
    std::shared_ptr<ublk::fd> file_;
};

/// Reads and writes that file by its queue's ring, with bytes in whatever place.
class file_disk {
public:
    static constexpr unsigned operations_in_flight = 1;
    static constexpr bool fua = true;

    file_disk() : file_{256u << 10} {}
    explicit file_disk(bare_file kept) : file_{std::move(kept)} {}

    [[nodiscard]] std::uint64_t size() const noexcept { return file_.size(); }
    [[nodiscard]] const bare_file& file() const noexcept { return file_; }

    ublk::task read(ublk::io& with, const ublk::request& r, std::span<std::byte> out) {
        co_return whole(co_await with.read(file_.get(), out, r.offset()), out.size());
    }
    ublk::task read(ublk::io& with, const ublk::request& r, ublk::registered_buffer out) {
        co_return whole(co_await with.read(file_.get(), out, r.offset()), out.size());
    }
    ublk::task write(ublk::io& with, const ublk::request& r, std::span<const std::byte> in) {
        const int flags = r.fua() ? RWF_DSYNC : 0;
        co_return whole(co_await with.write(file_.get(), in, r.offset(), flags), in.size());
    }
    ublk::task write(ublk::io& with, const ublk::request& r, ublk::registered_buffer in) {
        const int flags = r.fua() ? RWF_DSYNC : 0;
        co_return whole(co_await with.write(file_.get(), in, r.offset(), flags), in.size());
    }
    ublk::task flush(ublk::io& with, const ublk::request&) {
        co_return whole(co_await with.fdatasync(file_.get()), 0);
    }
    ublk::task discard(ublk::io& with, const ublk::request& r) { return zero(with, r); }
    ublk::task write_zeroes(ublk::io& with, const ublk::request& r) { return zero(with, r); }

private:
    static ublk::result whole(int outcome, std::size_t requested) noexcept {
        return outcome < 0                                      ? ublk::result::failure(-outcome)
               : static_cast<std::size_t>(outcome) == requested ? ublk::ok
                                                                : std::errc::io_error;
    }

    ublk::task zero(ublk::io& with, const ublk::request& r) {
        constexpr int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        int outcome = co_await with.fallocate(file_.get(), hole, r.offset(), r.length());
        if (outcome == 0 && r.fua()) {
            outcome = co_await with.fdatasync(file_.get());
        }
        co_return whole(outcome, 0);
    }

    bare_file file_;
};

/// Hands work over to a thread of the user's.
template <class Work>
ublk::task elsewhere(ublk::io& with, Work work) {
    // With a name: GCC 12 destroys a closure twice that is made within a co_await.
    auto give = [work](ublk::completion_handle ticket) {
        ublk::sim::do_in_users_thread(std::move(ticket), work);
    };
    co_return co_await with.offload(give);
}

/// Hands all work over to threads of the user's, and sleeps in between.
class handing_disk {
public:
    using memory = ublk::backends::memory;

    handing_disk() : store_{std::make_shared<memory>(256u << 10)} {}
    explicit handing_disk(std::shared_ptr<memory> kept) : store_{std::move(kept)} {}

    [[nodiscard]] std::uint64_t size() const noexcept { return store_->size(); }
    [[nodiscard]] const std::shared_ptr<memory>& store() const noexcept { return store_; }

    ublk::task read(ublk::io& with, const ublk::request& r, std::span<std::byte> out) {
        return elsewhere(with, [disk = store_, r, out] { return disk->read(r, out); });
    }
    ublk::task read(ublk::io& with, const ublk::request& r, ublk::user_copy out) {
        return elsewhere(with, [disk = store_, r, out] { return disk->read(r, out); });
    }
    ublk::task write(ublk::io& with, const ublk::request& r, std::span<const std::byte> in) {
        return elsewhere(with, [disk = store_, r, in] { return disk->write(r, in); });
    }
    ublk::task write(ublk::io& with, const ublk::request& r, ublk::user_copy in) {
        return elsewhere(with, [disk = store_, r, in] { return disk->write(r, in); });
    }
    ublk::task discard(ublk::io& with, const ublk::request& r) {
        if (const int outcome = co_await with.sleep(std::chrono::microseconds{100}); outcome != 0) {
            co_return ublk::result::failure(-outcome);
        }
        co_return store_->discard(r);
    }

private:
    std::shared_ptr<memory> store_;
};

/// Lets threads of the user's move the clients' own pages, where the kernel has that.
class paging_disk {
public:
    paging_disk() : file_{256u << 10} {}
    explicit paging_disk(bare_file kept) : file_{std::move(kept)} {}

    [[nodiscard]] std::uint64_t size() const noexcept { return file_.size(); }
    [[nodiscard]] const bare_file& file() const noexcept { return file_; }

    ublk::task read(ublk::io& with, const ublk::request& r, ublk::client_pages out) {
        return elsewhere(with, [kept = file_, at = r.offset(), out] {
            return ublk::sim::page_ring{}.read(kept.get(), out, at);
        });
    }
    ublk::result read(const ublk::request& r, std::span<std::byte> out) const {
        const auto offset = static_cast<off_t>(r.offset());
        return whole(::pread(file_.get(), out.data(), out.size(), offset), out.size());
    }
    ublk::task write(ublk::io& with, const ublk::request& r, ublk::client_pages in) {
        return elsewhere(with, [kept = file_, at = r.offset(), in] {
            return ublk::sim::page_ring{}.write(kept.get(), in, at);
        });
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) {
        const auto offset = static_cast<off_t>(r.offset());
        return whole(::pwrite(file_.get(), in.data(), in.size(), offset), in.size());
    }

private:
    static ublk::result whole(ssize_t outcome, std::size_t requested) noexcept {
        return outcome == static_cast<ssize_t>(requested) ? ublk::ok : std::errc::io_error;
    }

    bare_file file_;
};
