// The registry as user code sees it while its shards run: a small key-value store that all ranks of
// the run share, and that survives the loss of ranks, the coordinator's included. Every call waits
// for its reply, but never beyond its deadline. Reads and writes of a key are linearizable: once a
// put has returned, every get that begins later, on any rank, sees it or a later one. A put that
// was acknowledged is not lost unless a majority of the coordinator and its standbys is; with
// `--standbys 0` it is lost with the coordinator. Thread-safe: any thread of a shard may call.
//
// A shard may run more than once (a retry, a lost rank), and what it put stays: let it look at what
// is there first, as with a put that expects a version.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <string_view>

#include "runtime/protocol/registry_call.hpp"

namespace regroup {

struct RegistryError {
  RegistryStatus status{};
  std::uint64_t version = 0;  // kConflict: what the key has

  // One line, for people.
  std::string text() const { return "registry: " + std::string(describe(status)); }
};

// What a key holds. Each write raises its version by one.
struct RegistryEntry {
  std::uint64_t version = 0;  // 0: it was never written
  std::string value;

  bool exists() const { return version != 0; }
};

class Registry {
 public:
  // Asks the protocol, and returns its reply; waits until then.
  using Ask = std::function<RegistryReply(RegistryCall)>;

  Registry() = default;
  explicit Registry(Ask ask) : ask_(std::move(ask)) {}

  // Timeouts in nanoseconds. Errors: kKeyTooLong, kTooManyCalls, kTimedOut, kEnding; and those
  // named.
  std::expected<RegistryEntry, RegistryError> get(std::string_view key,
                                                  Nanoseconds timeout = kRegistryTimeout);

  // Writes if the key still has this version (0: if it was never written), or with kAnyVersion in
  // any case. Returns the new version. Errors: kConflict, kValueTooLong, kTooManyKeys,
  // kTooManyBytes. All but two leave the key as it was: after kTimedOut and kEnding nobody knows
  // whether the put was made, or will be.
  std::expected<std::uint64_t, RegistryError> put(std::string_view key, std::string_view value,
                                                  std::uint64_t expected_version = kAnyVersion,
                                                  Nanoseconds timeout = kRegistryTimeout);

  // Returns as soon as the key's version is beyond this one; versions in between may be passed
  // over. Errors: kTooManyWatches.
  std::expected<RegistryEntry, RegistryError> watch(std::string_view key, std::uint64_t version,
                                                    Nanoseconds timeout = kRegistryTimeout);

 private:
  std::expected<RegistryEntry, RegistryError> ask(RegistryCall call);

  Ask ask_;
};

}  // namespace regroup
