// SPDX-License-Identifier: MIT
#pragma once

// The core and its policies. Backends are included by name: <ublk/backends/memory.hpp>.

#include <ublk/device.hpp>
#include <ublk/policy/driver_batches.hpp>
#include <ublk/policy/each.hpp>
#include <ublk/policy/interleaved.hpp>
#include <ublk/policy/per_cpu.hpp>
#include <ublk/policy/per_wakeup.hpp>
#include <ublk/policy/pooled.hpp>
#include <ublk/policy/shared.hpp>
#include <ublk/policy/sqpoll.hpp>
#include <ublk/policy/up_to.hpp>
#include <ublk/policy/with.hpp>
#include <ublk/policy/within.hpp>
#include <ublk/stats.hpp>
#include <ublk/thread_set.hpp>
#include <ublk/when_all.hpp>
