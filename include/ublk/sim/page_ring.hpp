// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/kernel/operation.hpp>
#include <ublk/payload.hpp>
#include <ublk/result.hpp>
#include <ublk/sim/driver_device.hpp>
#include <ublk/sim/perform.hpp>
#include <ublk/sim/seam.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace ublk::inline v0::sim {

/// `ublk::page_ring` for a simulated thread of the user's (`do_in_users_thread`): moves bytes
/// between real files and the pages of simulated clients. What happens to the process meanwhile
/// ends it with an error, as a signal would.
class page_ring {
public:
    [[nodiscard]] result read(int file, client_pages out, std::uint64_t offset) {
        return move({.code = opcode::read_fixed, .file = file, .offset = offset}, out);
    }
    [[nodiscard]] result write(int file, client_pages in, std::uint64_t offset, int flags = 0) {
        return move({.code = opcode::write_fixed,
                     .file = file,
                     .offset = offset,
                     .op_flags = static_cast<std::uint32_t>(flags)},
                    in);
    }

private:
    static constexpr std::uint16_t place = 0;

    [[nodiscard]] static result move(submission requested, const client_pages& pages) {
        machine& on = *machine::here();
        const std::shared_ptr<driver_device> device = on.device_of_file(pages.file());
        if (device == nullptr || device->opener == nullptr || device->opener->dead) {
            return std::errc::io_error;
        }
        ring mine{on, *device->opener, 1};
        (void)mine.buffers.reserve(1);
        io_command command{
            uapi::io::register_io_buf, queue_id{pages.queue()}, tag{pages.tag()}, 0, place, 0,
            user_data::nobody()};
        if (const int code = device->carry_out(mine, command); code != 0) {
            return result::failure(code);
        }
        on.tasks.sleep(on.some_time());
        const int outcome = mine.gone ? -EIO : transfer(mine, requested, pages);
        on.tasks.sleep(on.some_time());
        if (mine.gone) {
            return std::errc::io_error;  // the process was killed, and its rings are closed
        }
        command.op = uapi::io::unregister_io_buf;
        const int taken = device->carry_out(mine, command);
        const int code = outcome != 0 ? outcome : taken;
        return code == 0 ? ok : result::failure(code);
    }

    /// 0 or -errno.
    [[nodiscard]] static int transfer(ring& mine, submission requested, const client_pages& pages) {
        const auto registered = mine.buffers.find(place);
        const bool fills = requested.code == opcode::read_fixed;
        if (const int code = registered->check(pages.base(), pages.size(), fills); code != 0) {
            return code;
        }
        for (std::size_t done = 0; done < pages.size();) {
            requested.address =
                reinterpret_cast<std::uintptr_t>(registered->at(pages.base() + done));
            requested.length = static_cast<std::uint32_t>(pages.size() - done);
            const int some = perform(requested);
            if (some <= 0) {
                return some < 0 ? some : -ENODATA;
            }
            done += static_cast<std::size_t>(some);
            requested.offset += static_cast<std::uint64_t>(some);
        }
        return 0;
    }
};

}  // namespace ublk::inline v0::sim
