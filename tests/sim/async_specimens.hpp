// SPDX-License-Identifier: MIT
#pragma once

#include "../support/async_disks.hpp"
#include "specimens.hpp"

#include <memory>

// Small asynchronous disks, as the laws are to try them.

template <>
struct ublk::sim::specimen<file_disk> {
    static std::shared_ptr<file_disk> make() { return std::make_shared<file_disk>(); }
    static std::shared_ptr<file_disk> revive(const std::shared_ptr<file_disk>& dead) {
        return std::make_shared<file_disk>(dead->file());
    }
    static constexpr bool remembers = true;
};

template <>
struct ublk::sim::specimen<handing_disk> {
    static std::shared_ptr<handing_disk> make() { return std::make_shared<handing_disk>(); }
    static std::shared_ptr<handing_disk> revive(const std::shared_ptr<handing_disk>& dead) {
        return std::make_shared<handing_disk>(dead->store());
    }
    static constexpr bool remembers = true;
};

template <>
struct ublk::sim::specimen<paging_disk> {
    static std::shared_ptr<paging_disk> make() { return std::make_shared<paging_disk>(); }
    static std::shared_ptr<paging_disk> revive(const std::shared_ptr<paging_disk>& dead) {
        return std::make_shared<paging_disk>(dead->file());
    }
    static constexpr bool remembers = true;
};

/// Every way in which that backend can be served, and every policy with one of them.
template <class Backend, ublk::data_path... Paths>
using by_paths =
    ::testing::Types<ublk::sim::composition<Backend, ublk::per_cpu, ublk::each, Paths>...,
                     ublk::sim::composition<Backend, ublk::shared, ublk::per_wakeup, Paths>...>;
