// What a user of the installed package writes first: it includes by the paths of the documentation,
// links regroup::protocol, and sends one value through the wire format and back.
#include <cstdint>
#include <cstdio>

#include <runtime/protocol/check.hpp>
#include <runtime/protocol/wire.hpp>

int main() {
  regroup::Buffer buffer;
  regroup::Writer writer(buffer);
  writer.put(regroup::ShardId{7});
  writer.put_string("seven");

  regroup::Reader reader(buffer.view());
  const auto shard = reader.get<regroup::ShardId>();
  const auto text = reader.get_string();
  REGROUP_CHECK(reader.complete(), "what was written is what is read");
  std::printf("shard %ju is %.*s\n", static_cast<std::uintmax_t>(shard.value),
              static_cast<int>(text.size()), text.data());
  return shard == regroup::ShardId{7} && text == "seven" ? 0 : 1;
}
