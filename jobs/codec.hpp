// How a shard's result becomes bytes. Types without padding travel as they lie in memory; strings
// and vectors of such types as their elements; any other type brings
//   void encode(Writer&) const;  static T decode(Reader&);
#pragma once

#include <cstring>
#include <ranges>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

// Travels as the bytes it has in memory, so nothing that only points at them: a string_view or a
// pointer would be one rank's address on another.
template <class T>
concept PlainResult = std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T> &&
                      !std::is_pointer_v<T> &&
                      !std::ranges::view<T>;

template <class T>
concept EncodedResult = requires(const T& value, Writer& writer, Reader& reader) {
  value.encode(writer);
  { T::decode(reader) } -> std::same_as<T>;
};

namespace codec_detail {
template <class T>
inline constexpr bool kIsSequence = false;
template <>
inline constexpr bool kIsSequence<std::string> = true;
template <PlainResult T>
inline constexpr bool kIsSequence<std::vector<T>> = !std::same_as<T, bool>;  // has no data()
}  // namespace codec_detail

// A std::string, or a std::vector of plain results.
template <class T>
concept SequenceResult = codec_detail::kIsSequence<T>;

template <class T>
concept JobResult = PlainResult<T> || EncodedResult<T> || SequenceResult<T>;

template <JobResult T>
void encode_result(const T& value, Buffer& out) {
  Writer writer(out);
  if constexpr (EncodedResult<T>) {
    value.encode(writer);
  } else if constexpr (PlainResult<T>) {
    writer.put_raw(std::as_bytes(std::span(&value, 1)));
  } else {
    writer.put_raw(std::as_bytes(std::span(value.data(), value.size())));
  }
}

// The bytes are what encode_result made of some value, on a rank of this run.
template <JobResult T>
T decode_result(std::span<const std::byte> bytes) {
  if constexpr (EncodedResult<T>) {
    Reader reader(bytes);
    T value = T::decode(reader);
    REGROUP_CHECK(reader.complete(), "a result decodes otherwise than it was encoded");
    return value;
  } else if constexpr (PlainResult<T>) {
    T value{};
    REGROUP_CHECK(bytes.size() == sizeof value, "a result of another size than its type");
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  } else {
    using Element = typename T::value_type;
    T value(bytes.size() / sizeof(Element), Element{});
    REGROUP_CHECK(bytes.size() % sizeof(Element) == 0, "a result of another size than its type");
    if (!bytes.empty()) std::memcpy(value.data(), bytes.data(), bytes.size());
    return value;
  }
}

}  // namespace regroup
