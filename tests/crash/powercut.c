/* Cuts the power of a file system: `powercut MOUNTPOINT`. From now on nothing reaches its device, and what has not yet is lost; its
   journal is left as it is (FS_IOC_SHUTDOWN without a flush, as the tests of Linux' own file systems do it). */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define FS_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#define WITHOUT_FLUSH 2

int main(int count, char **arguments) {
    uint32_t how = WITHOUT_FLUSH;
    int root = count == 2 ? open(arguments[1], O_RDONLY) : -1;
    if (root < 0 || ioctl(root, FS_IOC_SHUTDOWN, &how) != 0) {
        perror(count == 2 ? arguments[1] : "powercut MOUNTPOINT");
        return 1;
    }
    return 0;
}
