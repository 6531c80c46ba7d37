// SPDX-License-Identifier: MIT
#pragma once

// The core and its policies. Backends are included by name: <ublk/backends/memory.hpp>.

#include <ublk/batch_policy/driver_batches.hpp>
#include <ublk/batch_policy/each.hpp>
#include <ublk/batch_policy/per_wakeup.hpp>
#include <ublk/batch_policy/sqpoll.hpp>
#include <ublk/batch_policy/up_to.hpp>
#include <ublk/batch_policy/within.hpp>
#include <ublk/device.hpp>
#include <ublk/queue_policy/interleaved.hpp>
#include <ublk/queue_policy/per_cpu.hpp>
#include <ublk/queue_policy/pooled.hpp>
#include <ublk/queue_policy/shared.hpp>
#include <ublk/queue_policy/with.hpp>
#include <ublk/stats.hpp>
#include <ublk/thread_set.hpp>
#include <ublk/when_all.hpp>
