// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/file_limits.hpp>
#include <ublk/detail/fd.hpp>
#include <ublk/error.hpp>
#include <ublk/result.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

/// Opening the file of a disk, with words for all that can be in the way.
namespace ublk::inline v0::detail {

/// Something that any thread may find out, and that stays so.
class finding {
public:
    finding() noexcept = default;
    // Only while nobody else looks: a backend is moved before it serves.
    finding(finding&& other) noexcept : true_{static_cast<bool>(other)} {}
    finding& operator=(finding&& other) noexcept {
        true_.store(static_cast<bool>(other), std::memory_order_relaxed);
        return *this;
    }

    void set() noexcept { true_.store(true, std::memory_order_relaxed); }
    [[nodiscard]] explicit operator bool() const noexcept {
        return true_.load(std::memory_order_relaxed);
    }

private:
    std::atomic<bool> true_ = false;
};

/// An open file, and what became of the wishes.
struct opened_file {
    fd file;
    file_status status{};
    backends::file_options granted;
    bool in_memory = false;  ///< on tmpfs
};

[[noreturn, gnu::cold]] inline void cannot_open(int code, const std::string& path,
                                                const backends::file_options& requested) {
    std::string cause, remedy;
    switch (code) {
    case ENOENT:
        cause = "there is no such file";
        remedy = "correct the path, or make it: truncate -s 1G " + path;
        break;
    case EACCES:
    case EPERM:
        cause = requested.read_only ? "this user may not read it"
                                    : "this user may not write it, or it is immutable";
        remedy = "change its permissions, or run as a user who may";
        remedy += requested.read_only ? "" : ", or ask for a read-only disk";
        break;
    case EROFS:
        cause = "it is on a read-only filesystem";
        remedy = "ask for a read-only disk";
        break;
    case EISDIR:
        cause = "it is a directory";
        remedy = "name a regular file or a block device";
        break;
    case EINVAL:
        cause = requested.direct ? "its filesystem cannot do direct I/O" : "";
        remedy = requested.direct ? "leave direct I/O out" : "";
        break;
    case EBUSY:
        cause = "the block device is mounted, part of another device, or served already";
        remedy = "end its other use (lsblk shows it), or ask for a read-only disk";
        break;
    case ETXTBSY:
        cause = "it is being executed, or swapped to";
        remedy = "end that (swapon --show), or name another file";
        break;
    case EMFILE:
    case ENFILE:
        cause = "too many files are open";
        remedy = "raise the limit: ulimit -n";
        break;
    case ENXIO:
    case ENODEV:
    case ENOMEDIUM:
        cause = "there is no device behind this node, or no medium in it";
        remedy = "attach one";
        break;
    default:
        break;
    }
    fail(code, "opening " + path, std::nullopt, cause, remedy);
}

/// Repeats `attempt`, which answers 0 or an errno, while that is `busy` and time is left.
template <class Attempt>
[[nodiscard]] int patiently(time_limit wait, int busy, Attempt attempt) {
    using clock = std::chrono::steady_clock;
    const clock::time_point end = wait.after(clock::now());
    int code = attempt();
    while (code == EINTR || (code == busy && clock::now() < end)) {
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
        code = attempt();
    }
    return code;
}

/// Two servers that write one file destroy what is in it. Where a filesystem has no locks it has
/// to do without.
inline void lock_file(int file, const std::string& path, const backends::file_options& requested) {
    const int kind = requested.read_only ? LOCK_SH : LOCK_EX;
    const int code = patiently(requested.lock_wait, EWOULDBLOCK,
                               [&] { return ::flock(file, kind | LOCK_NB) == 0 ? 0 : errno; });
    if (code == EWOULDBLOCK) {
        fail(code, "locking " + path, std::nullopt, "another server has a disk in this file",
             "end that server (lslocks shows it); a file can be served several times only where "
             "all of the disks are read-only");
    }
}

/// Whether nobody can write that block device. Opening it for writing may work all the same.
[[nodiscard]] inline bool is_write_protected(const std::string& path) noexcept {
    const fd device{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    return device && told_by<int>(device.get(), blk_read_only).value_or(0) != 0;
}

[[nodiscard]] inline file_status status_of(int directory, const char* name, int flags,
                                           const std::string& path,
                                           const backends::file_options& requested) {
    file_status status{};
    if (::statx(directory, name, flags, STATX_BASIC_STATS, &status) != 0) {
        cannot_open(errno, path, requested);
    }
    if (S_ISDIR(status.stx_mode)) {
        cannot_open(EISDIR, path, requested);
    }
    if (!S_ISREG(status.stx_mode) && !S_ISBLK(status.stx_mode)) {
        fail(EINVAL, "opening " + path, std::nullopt,
             "it is neither a regular file nor a block device", "name one of these");
    }
    return status;
}

/// io_uring leaves what might wait to a worker of the kernel, which costs more than the operation
/// itself on a file that never does. tmpfs does not say that it is one (7.3, shmem_file_open), but
/// O_NONBLOCK does for it; its writes count as such only with O_DIRECT, which changes nothing else
/// there. True where that is so.
[[nodiscard]] inline bool spare_the_workers(int file) noexcept {
    constexpr long tmpfs = 0x01021994;  // TMPFS_MAGIC
    struct statfs of {};
    const int flags = ::fcntl(file, F_GETFL);
    const bool in_memory = ::fstatfs(file, &of) == 0 && static_cast<long>(of.f_type) == tmpfs;
    if (flags >= 0 && in_memory) {
        (void)::fcntl(file, F_SETFL, flags | O_NONBLOCK);
        (void)::fcntl(file, F_SETFL, flags | O_NONBLOCK | O_DIRECT);  // since 6.6
    }
    return in_memory;
}

/// Opens and locks it. Throws `error` where that cannot be; nothing is open then.
[[nodiscard]] inline opened_file open_file(const std::string& path,
                                           backends::file_options requested) {
    // What it is comes first: opening alone does something to a pipe or a tape.
    const bool device = S_ISBLK(status_of(AT_FDCWD, path.c_str(), 0, path, requested).stx_mode);
    requested.read_only = requested.read_only || (device && is_write_protected(path));
    // A mount, or another server, claims a block device just so: the kernel admits one.
    const int access =
        requested.read_only ? O_RDONLY : O_RDWR | (device && requested.lock ? O_EXCL : 0);
    const int flags = access | O_CLOEXEC | (requested.direct ? O_DIRECT : 0);
    opened_file made;
    const int code = patiently(requested.lock_wait, EBUSY, [&] {
        made.file = fd{::open(path.c_str(), flags)};
        return made.file ? 0 : errno;
    });
    if (code != 0) {
        cannot_open(code, path, requested);
    }
    made.status = status_of(made.file.get(), "", AT_EMPTY_PATH, path, requested);
    if (!device) {
        if (requested.lock) {
            lock_file(made.file.get(), path, requested);
        }
        made.in_memory = spare_the_workers(made.file.get());
    }
    made.granted = requested;
    return made;
}

/// Where registered buffers, whose bytes nobody here can touch, get their zeroes from.
[[nodiscard]] inline fd open_zero_device() {
    fd zero{::open("/dev/zero", O_RDONLY | O_CLOEXEC)};
    if (!zero) {
        fail(errno, "opening /dev/zero", std::nullopt,
             "what is beyond the end of a file is read from there",
             "make it: mknod -m 666 /dev/zero c 1 5");
    }
    return zero;
}

/// Of fallocate: whether the file is as it was, and there may be a plainer way. Filesystems and
/// devices have all of these words for it, some only where a range does not suit them.
[[nodiscard]] inline bool lacks_a_way(result answer) noexcept {
    const int code = answer.error();
    return code == EOPNOTSUPP || code == EINVAL || code == ENOSYS || code == ENODEV;
}

/// Whether the file ends there or before.
[[nodiscard]] inline bool is_end(int file, std::uint64_t offset) noexcept {
    struct ::stat now {};
    return ::fstat(file, &now) == 0 && static_cast<std::uint64_t>(now.st_size) <= offset;
}

}  // namespace ublk::inline v0::detail
