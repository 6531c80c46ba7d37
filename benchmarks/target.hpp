// SPDX-License-Identifier: MIT
#pragma once

#include "matrix.hpp"

#include <ublk/options.hpp>

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

namespace benchmark {

/// A disk of the matrix, by its name.
struct disk {
    std::string name;
    /// Serves until the token is triggered; calls `started` when the disk can be used. Throws
    /// `ublk::error`.
    void (*serve)(
        const settings&, ublk::options, std::stop_token,
        const std::function<void(const std::string& path, const ublk::device_info&)>& started);
    ublk::data_path path;
};

/// Those with backend number `Index`; one translation unit each.
template <std::size_t Index>
std::vector<disk> disks_with_backend();

/// All of them, in the order of the matrix.
[[nodiscard]] std::vector<disk> all_disks();

}  // namespace benchmark
