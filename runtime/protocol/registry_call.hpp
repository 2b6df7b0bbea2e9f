// What passes between code that asks the registry and the protocol that answers: calls in, replies
// out, and how both travel between ranks. The registry is a small key-value store that the
// coordinator holds and its standbys copy (scheduler/registry.hpp). A key's version counts its
// writes, from 1; a key that was never written has version 0 and an empty value. Layouts:
// docs/wire-format.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

inline constexpr std::size_t kRegistryKeyBytesMax = 256;
inline constexpr std::size_t kRegistryValueBytesMax = std::size_t{1} << 16;
inline constexpr std::size_t kRegistryKeysMax = std::size_t{1} << 16;
// Of all keys and values together.
inline constexpr std::size_t kRegistryBytesMax = std::size_t{1} << 24;
// That wait at a time, of all ranks together.
inline constexpr std::size_t kRegistryWatchesMax = 4096;
// Calls of one rank that wait at a time.
inline constexpr std::size_t kRegistryCallsMax = 64;
inline constexpr Nanoseconds kRegistryTimeout = 30 * kSecond;
// Longer waits end after this.
inline constexpr Nanoseconds kRegistryTimeoutMax = 365 * 24 * 3600 * kSecond;

// A put that takes whatever version the key has.
inline constexpr std::uint64_t kAnyVersion = ~std::uint64_t{0};

enum class RegistryOperation : std::uint8_t { kGet, kPut, kWatch };

enum class RegistryStatus : std::uint8_t {
  kDone,
  kConflict,        // put: the key has another version than expected; nothing was written
  kTooManyKeys,     // put of a new key: kRegistryKeysMax are there; nothing was written
  kTooManyBytes,    // put: beyond kRegistryBytesMax; nothing was written
  kTooManyWatches,  // watch: kRegistryWatchesMax wait
  kTooManyCalls,    // kRegistryCallsMax of this rank wait; nothing was written
  kEnding,          // the run is at its end; nothing was written, unless the put was under way
  kKeyTooLong,
  kValueTooLong,
  kTimedOut,  // put: it may yet be written, or have been
};
inline constexpr std::size_t kRegistryStatuses = 10;
// "the key has another version"
std::string_view describe(RegistryStatus status);

struct RegistryCall {
  std::uint64_t id = 0;  // chosen by who asks, to tell replies apart
  RegistryOperation operation{};
  std::string key;
  std::string value;          // put
  std::uint64_t version = 0;  // put: the one expected, or kAnyVersion; watch: any beyond this one
  Nanoseconds timeout = kRegistryTimeout;
};

struct RegistryReply {
  std::uint64_t id = 0;
  RegistryStatus status{};
  std::uint64_t version = 0;  // of the key: when done, or in a conflict
  std::string value;          // get, watch
};

// ---- between ranks ----

// Views into the message.
struct RegistryRequest {
  std::uint64_t number = 0;  // of the rank's calls, from 1
  RegistryOperation operation{};
  std::string_view key;
  std::string_view value;
  std::uint64_t version = 0;
  // Puts are numbered apart, from 1: by (rank, write) one is known when it comes again. Those up to
  // `answered` will not.
  std::uint64_t write = 0;
  std::uint64_t answered = 0;
  Nanoseconds left = 0;  // watch: how long it may wait
};
void put_registry_request(Writer& writer, const RegistryRequest& request);
// Empty if it is malformed or beyond a bound.
std::optional<RegistryRequest> get_registry_request(Reader& reader);

struct RegistryAnswer {
  std::uint64_t number = 0;
  RegistryStatus status{};
  std::uint64_t version = 0;
  std::string_view value;
};
void put_registry_answer(Writer& writer, const RegistryAnswer& answer);
std::optional<RegistryAnswer> get_registry_answer(Reader& reader);

}  // namespace regroup
