// SPDX-License-Identifier: MIT
#include <ublk/ublk.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

// Backends that bring into the hot loop what it must not have, one thing each: hotloop.sh has to
// find it.
namespace slow {

struct disk {
    std::uint64_t size() const noexcept { return 1u << 20; }
    ublk::result read(const ublk::request&, std::span<std::byte>) noexcept { return ublk::ok; }
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        return ublk::ok;
    }
};

struct store {
    virtual ~store() = default;
    virtual bool keep(std::span<const std::byte> bytes) noexcept = 0;
};

struct calls_virtually : disk {
    std::shared_ptr<store> where;
    ublk::result write(const ublk::request&, std::span<const std::byte> in) noexcept {
        return where->keep(in) ? ublk::ok : std::errc::io_error;
    }
};

struct allocates : disk {
    std::vector<std::uint64_t> log;
    ublk::result write(const ublk::request& r, std::span<const std::byte>) noexcept {
        log.push_back(r.offset());
        return ublk::ok;
    }
};

struct locks : disk {
    std::unique_ptr<std::mutex> mutex = std::make_unique<std::mutex>();
    std::uint64_t writes = 0;
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        const std::lock_guard lock{*mutex};
        ++writes;
        return ublk::ok;
    }
};

struct counts_atomically : disk {
    std::unique_ptr<std::atomic<int>> writes = std::make_unique<std::atomic<int>>();
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        ++*writes;
        return ublk::ok;
    }
};

struct asks_the_time : disk {
    std::chrono::steady_clock::time_point last{};
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        last = std::chrono::steady_clock::now();
        return ublk::ok;
    }
};

struct throws : disk {
    ublk::result write(const ublk::request& r, std::span<const std::byte>) {
        if (r.fua()) {
            throw std::runtime_error{"no"};
        }
        return ublk::ok;
    }
};

template <class... Backends>
void serve_each() {
    (ublk::device<Backends>{Backends{}}.start(), ...);
}

}  // namespace slow

int main() {
    slow::serve_each<slow::calls_virtually, slow::allocates, slow::locks, slow::counts_atomically,
                     slow::asks_the_time, slow::throws>();
}
