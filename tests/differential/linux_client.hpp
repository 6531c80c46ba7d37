// SPDX-License-Identifier: MIT
#pragma once

// The client on /dev/ublkbN: every deed in a thread of its own that may be left behind.

#include "player.hpp"

#include "../kernel/client.hpp"

namespace ublk_test::differential {

class linux_client {
public:
    void begin(unsigned number, const client_action& action, std::uint32_t device) {
        const auto made = std::make_shared<ublk_test::detail::offloaded<client_outcome>>();
        auto& file = files_[action.file];
        if (opens(action.kind) || !file) {
            file = std::make_shared<handle>();
        }
        const auto thread = std::make_shared<std::atomic<pid_t>>(0);
        send_off<client_outcome>(made, [file = file, action, device, thread] {
            run_on(action.cpu);
            *thread = ::gettid();
            return carry_out(*file, action, device);
        });
        offloaded_[number] = made;
        (void)eventually([&] {
            const std::lock_guard lock{made->mutex};
            return made->done || waits_for_a_disk(*thread);
        });
        if (action.kind == deed::close) {
            file.reset();
        }
    }

    [[nodiscard]] std::optional<client_outcome> poll(unsigned number) {
        const auto& offloaded = offloaded_.at(number);
        const std::lock_guard lock{offloaded->mutex};
        if (!offloaded->done) {
            return std::nullopt;
        }
        if (offloaded->failure) {
            std::rethrow_exception(offloaded->failure);
        }
        return std::move(*offloaded->value);
    }

private:
    /// An open disk; the last of its deeds closes it, unless `close` did.
    struct handle {
        handle() = default;
        handle(const handle&) = delete;
        handle& operator=(const handle&) = delete;
        ~handle() {
            if (number >= 0) {
                ::close(number);
            }
        }
        std::atomic<int> number = -1;
    };

    [[nodiscard]] static int code(long answer) noexcept { return answer < 0 ? errno : 0; }

    [[nodiscard]] static client_outcome carry_out(handle& file, const client_action& a,
                                                  std::uint32_t device) {
        const std::uint64_t at = a.sector * 512;
        const std::uint64_t length = std::uint64_t{a.sectors} * 512;
        std::uint64_t both[2]{at, length};
        switch (a.kind) {
        case deed::open:
        case deed::open_cached: {
            const std::string path = "/dev/ublkb" + std::to_string(device);
            const int flags = a.kind == deed::open ? O_DIRECT | O_CLOEXEC : O_CLOEXEC;
            file.number = ::open(path.c_str(), (a.writable ? O_RDWR : O_RDONLY) | flags);
            return {code(file.number), {}};
        }
        case deed::close:
            return {code(::close(file.number.exchange(-1))), {}};
        case deed::read:
            return read(file.number, at, length);
        case deed::write:
        case deed::durable_write:
            return write(file.number, at, length, a);
        case deed::flush:
            return {code(::fsync(file.number)), {}};
        case deed::discard:
            return {code(::ioctl(file.number, BLKDISCARD, both)), {}};
        case deed::zero_out:
            return {code(::ioctl(file.number, BLKZEROOUT, both)), {}};
        case deed::punch_hole:
            return {code(::fallocate(file.number, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     static_cast<off_t>(at), static_cast<off_t>(length))),
                    {}};
        }
        return {EINVAL, {}};
    }

    [[nodiscard]] static client_outcome read(int file, std::uint64_t at, std::uint64_t length) {
        bytes memory(length, std::byte{0xee});
        const ssize_t moved = ::pread(file, memory.data(), length, static_cast<off_t>(at));
        client_outcome outcome{code(moved), {}};
        if (moved > 0) {
            outcome.data.assign(memory.begin(), memory.begin() + moved);
        }
        return outcome;
    }

    [[nodiscard]] static client_outcome write(int file, std::uint64_t at, std::uint64_t length,
                                              const client_action& a) {
        bytes memory(length, std::byte{a.fill});
        const iovec one{memory.data(), memory.size()};
        const ssize_t moved = ::pwritev2(file, &one, 1, static_cast<off_t>(at),
                                         a.kind == deed::durable_write ? RWF_DSYNC : 0);
        const bool partly = moved >= 0 && static_cast<std::uint64_t>(moved) < length;
        return {partly ? short_transfer : code(moved), {}};
    }

    std::map<unsigned, std::shared_ptr<handle>> files_;
    std::map<unsigned, std::shared_ptr<ublk_test::detail::offloaded<client_outcome>>> offloaded_;
};

static_assert(clients<linux_client>);

}  // namespace ublk_test::differential
