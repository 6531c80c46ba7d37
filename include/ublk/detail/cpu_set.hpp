// SPDX-License-Identifier: MIT
#pragma once

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>

namespace ublk::inline v0 {

/// A set of CPUs, as wide as the kernel's widest (8192).
class cpu_set {
public:
    static constexpr std::size_t cpus_max = 8192;
    using words = std::array<unsigned long, cpus_max / (8 * sizeof(unsigned long))>;

    [[nodiscard]] bool contains(std::size_t cpu) const noexcept {
        return cpu < cpus_max && (words_[cpu / bits] >> (cpu % bits) & 1) != 0;
    }
    /// Beyond the widest there is no CPU to insert.
    void insert(std::size_t cpu) noexcept {
        if (cpu < cpus_max) {
            words_[cpu / bits] |= 1ul << (cpu % bits);
        }
    }
    void insert(const cpu_set& others) noexcept {
        for (std::size_t i = 0; i < words_.size(); ++i) {
            words_[i] |= others.words_[i];
        }
    }
    /// Leaves only what `others` has as well.
    void intersect(const cpu_set& others) noexcept {
        for (std::size_t i = 0; i < words_.size(); ++i) {
            words_[i] &= others.words_[i];
        }
    }
    /// Whether both have a CPU.
    [[nodiscard]] bool intersects(const cpu_set& others) const noexcept {
        cpu_set both = *this;
        both.intersect(others);
        return !both.empty();
    }
    [[nodiscard]] std::size_t count() const noexcept {
        std::size_t all = 0;
        for (const unsigned long word : words_) {
            all += static_cast<std::size_t>(std::popcount(word));
        }
        return all;
    }
    [[nodiscard]] bool empty() const noexcept {
        return std::all_of(words_.begin(), words_.end(), [](unsigned long w) { return w == 0; });
    }

    /// The bits as the kernel has them.
    [[nodiscard]] words& raw() noexcept { return words_; }
    [[nodiscard]] const words& raw() const noexcept { return words_; }

private:
    static constexpr std::size_t bits = 8 * sizeof(unsigned long);
    words words_{};
};

}  // namespace ublk::inline v0

namespace ublk::inline v0::detail {

/// Restricts the calling thread to `cpus`; an empty set leaves it as it is. False where the kernel
/// refuses, as it does in a cpuset without these CPUs: the thread then runs where it may.
inline bool pin_this_thread(const cpu_set& cpus) noexcept {
    return cpus.empty() ||
           ::sched_setaffinity(0, sizeof(cpu_set::words),
                               reinterpret_cast<const ::cpu_set_t*>(cpus.raw().data())) == 0;
}

/// CPUs that the calling thread may use, as taskset(1), a cpuset or whoever started it has it.
[[nodiscard]] inline cpu_set allowed_cpus() noexcept {
    cpu_set mine;
    (void)::sched_getaffinity(0, sizeof(cpu_set::words),
                              reinterpret_cast<::cpu_set_t*>(mine.raw().data()));
    return mine;
}

/// CPUs that are online, at least 1.
[[nodiscard]] inline unsigned online_cpus() noexcept {
    return static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
}

/// What of `cpus` the calling thread may use: what the user gave bounds every placement. A thread
/// that may use all CPUs that are online is not bound, so that it may use those to come as well.
[[nodiscard]] inline cpu_set within_allowed(cpu_set cpus) noexcept {
    const cpu_set allowed = allowed_cpus();
    if (allowed.count() < online_cpus()) {
        cpus.intersect(allowed);
    }
    return cpus;
}

}  // namespace ublk::inline v0::detail
