// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/control_call.hpp>
#include <ublk/sim/driver_device.hpp>
#include <ublk/sim/parameters.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>

namespace ublk::inline v0::sim {

/// The commands that ask a device for what it is and tell it what to be.
class device_settings {
public:
    static constexpr std::uint32_t page_size = 4096;

    explicit device_settings(const machine& m) noexcept : on_{m} {}

    [[nodiscard]] int tell_info(const driver_device& ub, const user_buffer& memory) const {
        if (memory.len < sizeof(uapi::dev_info)) {
            return -EINVAL;
        }
        uapi::dev_info info = ub.info;
        if (on_.since(6, 16) && (info.pid <= 0 || ub.opener == nullptr || ub.opener->dead)) {
            info.pid = -1;
        }
        memory.put(&info, sizeof info);
        return 0;
    }

    [[nodiscard]] int tell_affinity(const driver_device& ub, std::uint64_t queue,
                                    const user_buffer& memory) const {
        if (memory.len * 8 < on_.is.cpus || memory.len % sizeof(unsigned long) != 0 ||
            memory.data == nullptr || queue >= ub.queues.size()) {
            return -EINVAL;
        }
        std::memset(memory.data, 0, memory.len);
        for (std::size_t cpu = queue; cpu < on_.is.cpus; cpu += ub.queues.size()) {
            memory.data[cpu / 8] |= std::byte{1} << (cpu % 8);
        }
        return 0;
    }

    [[nodiscard]] int take_params(driver_device& ub, const user_buffer& memory) const {
        constexpr std::size_t head = 2 * sizeof(std::uint32_t);
        if (memory.len <= head) {
            return -EINVAL;
        }
        const auto given = memory.get<uapi::params>();
        if (given.len > memory.len || given.len == 0 || given.types == 0) {
            return -EINVAL;
        }
        const std::lock_guard guard{ub.lock};
        if (ub.used) {
            return -EACCES;
        }
        std::memcpy(static_cast<void*>(&ub.params), memory.data,
                    std::min<std::size_t>(given.len, params_size(on_)));
        ub.params.types &= params_known(on_);
        const int code = check_params(ub.params, ub.info, page_size, on_);
        if (code != 0 && on_.since(7, 0)) {
            ub.params = {};
        } else if (code != 0) {
            ub.params.types = 0;
        }
        return code;
    }

    [[nodiscard]] int tell_params(driver_device& ub, const user_buffer& memory) const {
        constexpr std::size_t head = 2 * sizeof(std::uint32_t);
        const std::uint32_t wanted = memory.len <= head ? 0 : memory.get<uapi::params>().len;
        if (wanted == 0 || wanted > memory.len) {
            return -EINVAL;
        }
        const std::lock_guard guard{ub.lock};
        ub.params.types |= uapi::param_type::devt;
        ub.params.devt.char_major = 511;
        ub.params.devt.char_minor = ub.info.dev_id;
        ub.params.devt.disk_major = ub.live != nullptr ? 259 : 0;
        ub.params.devt.disk_minor = ub.live != nullptr ? ub.info.dev_id : 0;
        memory.put(&ub.params, std::min<std::size_t>(wanted, params_size(on_)));
        return 0;
    }

private:
    const machine& on_;
};

}  // namespace ublk::inline v0::sim
