// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/file_limits.hpp>
#include <ublk/backends/file_open.hpp>
#include <ublk/data_path.hpp>
#include <ublk/detail/fd.hpp>
#include <ublk/detail/mapping.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/error.hpp>
#include <ublk/io.hpp>
#include <ublk/payload.hpp>
#include <ublk/registered_file.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/task.hpp>
#include <ublk/units.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace ublk::inline v0::backends {

/// A disk in a regular file or a block device, as the loop driver has it. All I/O goes through the
/// queue's io_uring; with `direct` past the page cache.
///
/// The size is that of the file, rounded up to the logical block; what lies beyond the file's end
/// reads as zeroes, also where the file is cut short while it is served, and a write there makes
/// the file longer. A block device is rounded down.
///
/// A FLUSH is an fdatasync, a write with FUA a write with RWF_DSYNC. The kernel reports the loss of
/// written data once, to whoever asks first, and takes the lost pages for clean from then on. So
/// after one failure every FLUSH and every write with FUA fails with EIO, until the backend is made
/// anew. Only those that the kernel has answered before the failure is seen get away.
///
/// A discard makes a hole (on a block device it unmaps); zeroes make one too, with NOUNMAP they
/// stay allocated. Where the filesystem knows neither, zeroes are written. The kernel's workers do
/// all of this, like FLUSH, so it never holds up the queue.
///
/// Errors of the file go to the client as they are. A regular file is locked with flock(2), shared
/// where the disk is read-only. A block device is opened with O_EXCL for writing; a write-protected
/// one becomes a read-only disk.
class file {
public:
    static constexpr bool idempotent = true;

    /// Throws: `error` for what cannot be opened, locked or served by these options.
    explicit file(const std::string& path, const file_options& requested = {})
        : file{path, detail::open_file(path, requested)} {}

    [[nodiscard]] std::uint64_t size() const noexcept { return disk_.size; }
    [[nodiscard]] bool read_only() const noexcept { return disk_.read_only; }
    [[nodiscard]] bool rotational() const noexcept { return disk_.rotational; }
    [[nodiscard]] std::uint32_t logical_block_size() const noexcept {
        return disk_.logical_block_size;
    }
    [[nodiscard]] std::uint32_t physical_block_size() const noexcept {
        return disk_.physical_block_size;
    }
    [[nodiscard]] std::uint32_t minimum_io_size() const noexcept { return disk_.minimum_io_size; }
    [[nodiscard]] std::uint32_t optimal_io_size() const noexcept { return disk_.optimal_io_size; }
    [[nodiscard]] std::uint32_t dma_alignment() const noexcept { return disk_.dma_alignment; }
    [[nodiscard]] std::uint32_t discard_granularity() const noexcept {
        return disk_.discard_granularity;
    }
    [[nodiscard]] std::uint32_t discard_alignment() const noexcept {
        return disk_.discard_alignment;
    }
    [[nodiscard]] std::uint64_t max_discard_size() const noexcept { return disk_.max_discard_size; }
    [[nodiscard]] std::uint64_t max_write_zeroes_size() const noexcept {
        return disk_.max_write_zeroes_size;
    }
    static constexpr bool volatile_cache = true;
    static constexpr bool fua = true;

    static constexpr std::size_t task_bytes = 1536;

    [[nodiscard]] task read(io& with, const request& r, std::span<std::byte> out) {
        return read_at_once(r, out) ? task{ok} : fill(with, r, out);
    }
    [[nodiscard]] task read(io& with, const request& r, registered_buffer out) {
        return fill(with, r, out);
    }

    [[nodiscard]] task write(io& with, const request& r, std::span<const std::byte> in) {
        return write_at_once(r, in) ? task{ok} : store(with, r, in);
    }
    [[nodiscard]] task write(io& with, const request& r, registered_buffer in) {
        return store(with, r, in);
    }

    [[nodiscard]] task flush(io& with, const request&) {
        if (lost_data_) {
            co_return std::errc::io_error;
        }
        const int n = co_await with.fdatasync(file_);
        co_return durable(n);
    }

    [[nodiscard]] task discard(io& with, const request& r) {
        const result punched = co_await clear(with, r, detail::punch_hole);
        co_return detail::lacks_a_way(punched) ? ok : punched;  // a hint need not be followed
    }

    [[nodiscard]] task write_zeroes(io& with, const request& r) {
        if (!r.no_unmap() && !punches_nothing_) {
            const result punched = co_await clear(with, r, detail::punch_hole);
            if (!detail::lacks_a_way(punched)) {
                co_return punched;
            }
            punches_nothing_.set();
        }
        // On a block device this is more than a fallback: there the kernel writes what it must.
        if (!zeroes_nothing_) {
            const result zeroed = co_await clear(with, r, detail::zero_range);
            if (!detail::lacks_a_way(zeroed)) {
                co_return zeroed;
            }
            zeroes_nothing_.set();
        }
        co_return co_await write_zero_bytes(with, r);
    }

    /// Buffered, with the page cache in reach of a system call, a copy is cheaper than having the
    /// client's pages registered. Direct, it is the other way round.
    [[nodiscard]] std::optional<data_path> preferred_path() const noexcept {
        return at_once_ ? std::optional{data_path::copy} : std::nullopt;
    }

    [[nodiscard]] std::vector<const registered_file*> ring_files() const { return {&file_}; }

protected:
    [[nodiscard]] int descriptor() const noexcept { return file_.get(); }
    [[nodiscard]] int zero_descriptor() const noexcept { return zero_device_.get(); }

    /// What a FLUSH or a write with FUA answers after the kernel has answered `n`.
    [[nodiscard]] result durable(int n) noexcept {
        if (n < 0) {
            if (n != -ECANCELED) {  // ours: nothing was asked of the file
                lost_data_.set();
            }
            return result::failure(n);
        }
        // Another thread may have been told of a loss that concerns this one, too.
        return lost_data_ ? result{std::errc::io_error} : ok;
    }

private:
    static constexpr std::size_t zero_bytes = 1u << 20;

    file(const std::string& path, detail::opened_file opened)
        : file_{std::move(opened.file)}, zero_device_{detail::open_zero_device()},
          zeroes_{zero_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1,         0,         "mapping a page of zeroes"},
          disk_{detail::limits_of_file(file_.get(), path, opened.status, opened.granted)},
          unit_{unit_of(opened.granted, disk_)}, in_memory_{opened.in_memory},
          at_once_{opened.granted.at_once && (in_memory_ || !opened.granted.direct)} {}

    // The largest unit that fits divides all larger ones.
    [[nodiscard]] static std::uint16_t unit_of(const file_options& granted,
                                               const disk_attributes& disk) noexcept {
        const std::uint32_t unit = std::min<std::uint32_t>(disk.logical_block_size, 1u << 15);
        return granted.direct ? static_cast<std::uint16_t>(unit) : std::uint16_t{1};
    }

    /// From memory, if all of it is there; else the ring is asked, and tells why not.
    [[nodiscard]] bool read_at_once(const request& r, std::span<std::byte> out) const noexcept {
        if (!at_once_) {
            return false;
        }
        const auto offset = static_cast<off_t>(r.offset());
        const iovec whole{out.data(), out.size()};
        const ssize_t n = in_memory_ ? ::pread(file_.get(), out.data(), out.size(), offset)
                                     : ::preadv2(file_.get(), &whole, 1, offset, RWF_NOWAIT);
        return n == static_cast<ssize_t>(out.size());
    }

    /// To memory, if that does not wait: where writers are made to, or the file is on another disk
    /// of this thread, the queue would wait for itself.
    [[nodiscard]] bool write_at_once(const request& r, std::span<const std::byte> in) noexcept {
        if (!at_once_ || r.fua() || writes_wait_) {
            return false;
        }
        const auto offset = static_cast<off_t>(r.offset());
        const iovec whole{const_cast<std::byte*>(in.data()), in.size()};
        const ssize_t n = in_memory_ ? ::pwrite(file_.get(), in.data(), in.size(), offset)
                                     : ::pwritev2(file_.get(), &whole, 1, offset, RWF_NOWAIT);
        if (n < 0 && errno == EOPNOTSUPP) {
            writes_wait_.set();  // as those to ext4 and to block devices do (6.12, 7.3)
        }
        return n == static_cast<ssize_t>(in.size());
    }

    template <class Payload>
    [[nodiscard]] task fill(io& with, const request& r, Payload out) {
        const int n = co_await with.read(file_, out, r.offset(), unit_);
        if (n == static_cast<int>(out.size())) [[likely]] {
            co_return ok;
        }
        if (n < 0) {
            co_return result::failure(n);
        }
        co_return co_await fill_end(with, r, out, static_cast<std::size_t>(n));
    }

    /// The rest of a read that came to the end of the file after `done` bytes.
    template <class Payload>
    [[nodiscard, gnu::noinline]] task fill_end(io& with, const request& r, Payload out,
                                               std::size_t done) {
        // Zeroes instead of data would be a lie: that a direct read which stops off a block is at
        // the end is true of local filesystems, and may have changed with a write meanwhile.
        for (int attempt = 0; done % unit_ != 0 && !detail::is_end(file_.get(), r.offset() + done);
             ++attempt) {
            if (attempt == 10) {
                co_return std::errc::io_error;
            }
            const std::size_t from = round_down(done, unit_);
            const int n = co_await with.read(file_, out.subspan(from, out.size() - from),
                                             r.offset() + from, unit_);
            if (n < 0) {
                co_return result::failure(n);
            }
            done = from + static_cast<std::size_t>(n);
        }
        const Payload rest = out.subspan(done, out.size() - done);
        if constexpr (std::is_same_v<Payload, registered_buffer>) {  // out of our reach
            const int n = co_await with.read(zero_device_.get(), rest, 0);
            if (n != static_cast<int>(rest.size())) {
                co_return result::failure(n < 0 ? n : EIO);
            }
        } else {
            std::memset(rest.data(), 0, rest.size());
        }
        co_return ok;
    }

    template <class Payload>
    [[nodiscard]] task store(io& with, const request& r, Payload in) {
        const bool lasting = r.fua();
        if (lasting && lost_data_) [[unlikely]] {
            co_return std::errc::io_error;
        }
        const int n = co_await with.write(file_, in, r.offset(), lasting ? RWF_DSYNC : 0, unit_);
        if (n >= 0 && n != static_cast<int>(in.size())) [[unlikely]] {
            co_return std::errc::io_error;  // it stopped, and the kernel does not say why
        }
        if (lasting) {
            co_return durable(n);
        }
        co_return n < 0 ? result::failure(n) : ok;
    }

    [[nodiscard]] task clear(io& with, const request& r, int mode) {
        const int n = co_await with.fallocate(file_, mode, r.offset(), r.length());
        co_return n < 0 ? result::failure(n) : ok;
    }

    [[nodiscard]] task write_zero_bytes(io& with, const request& r) {
        for (std::uint64_t done = 0; done < r.length();) {
            const std::uint64_t bytes = std::min<std::uint64_t>(r.length() - done, zero_bytes);
            const std::span<const std::byte> zeroes{zeroes_.data(), bytes};
            const int n = co_await with.write(file_, zeroes, r.offset() + done, 0, unit_);
            if (n != static_cast<int>(bytes)) {
                co_return result::failure(n < 0 ? n : EIO);
            }
            done += bytes;
        }
        co_return ok;
    }

    registered_file file_;
    fd zero_device_;
    detail::mapping zeroes_;
    disk_attributes disk_;
    std::uint16_t unit_;
    bool in_memory_;  ///< on tmpfs, where direct I/O is the same and nothing waits
    bool at_once_;
    detail::finding lost_data_;
    detail::finding writes_wait_;
    detail::finding punches_nothing_;
    detail::finding zeroes_nothing_;
};

}  // namespace ublk::inline v0::backends
